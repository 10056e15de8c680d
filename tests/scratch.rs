//! Temporary directories of tests.
//!
//! A dropped directory is removed with everything that is mounted in it, also after a failed test.
//! A killed test cannot do this: the next process that makes such a directory removes those of
//! processes that have ended.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;

use rustix::mount::UnmountFlags;

/// A directory that is removed with its mounts.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new directory in the place for temporary files.
    pub(crate) fn new() -> Scratch {
        Scratch::within(&std::env::temp_dir()).expect("temporary directory")
    }

    /// A new directory in `place`.
    pub(crate) fn within(place: &Path) -> io::Result<Scratch> {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(|| {
            sweep(&std::env::temp_dir());
            sweep(Path::new("/dev/shm"));
        });
        let prefix = format!("{}{}-", prefix(), std::process::id());
        let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(place)?;
        Ok(Scratch(made.keep()))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// The names of all such directories begin with the namespace in which their process numbers are valid.
fn prefix() -> String {
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = namespace.to_string_lossy();
    let number: String = text.chars().filter(char::is_ascii_digit).collect();
    format!("layerfs-test-{number}-")
}

/// Removes the directories of processes that have ended.
fn sweep(place: &Path) {
    let prefix = prefix();
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        let owner = owner.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner.to_string()).exists()) {
            remove(&entry.path());
        }
    }
}

/// Unmounts everything at `directory` and below, the latest mount first, and removes the directory.
fn remove(directory: &Path) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter_map(|line| line.split(' ').nth(4));
    let inside: Vec<&Path> = mounts
        .map(Path::new)
        .filter(|mount| mount.starts_with(directory))
        .collect();
    for mount in inside.into_iter().rev() {
        let _ = rustix::mount::unmount(mount, UnmountFlags::DETACH);
    }
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn directories_of_ended_processes_are_removed_with_their_mounts() {
    let place = Scratch::new();
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let named = |owner: u32| place.path().join(format!("{}{owner}-x", prefix()));
    let (left, ours) = (named(ended.id()), named(std::process::id()));
    for directory in [&left, &ours] {
        std::fs::create_dir_all(directory.join("mounted/inside")).unwrap();
    }
    let tmpfs = rustix::mount::MountFlags::empty();
    // An ordinary user has no mounts to leave behind.
    let _ = rustix::mount::mount("left", left.join("mounted"), "tmpfs", tmpfs, None);
    sweep(place.path());
    assert!(!left.exists() && ours.join("mounted/inside").is_dir());
}
