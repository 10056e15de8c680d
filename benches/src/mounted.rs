//! Mounts that end with their value: layerfs by its program, squashfs under overlayfs by the kernel's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fixture::Failure;

/// A mounted tree; dropping it unmounts, the last mount first.
#[derive(Debug)]
pub struct Mounted {
    root: PathBuf,
    below: Vec<PathBuf>,
}

impl Mounted {
    /// Where the tree is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The layers (base first) by the `layerfs` of this build, read-only.
    ///
    /// # Errors
    /// No such program (`make build` makes it), or what it says.
    pub fn layerfs(layers: &[PathBuf], root: &Path) -> Result<Mounted, Failure> {
        fs::create_dir_all(root)?;
        let stack: Vec<String> = layers
            .iter()
            .rev()
            .map(|path| path.display().to_string())
            .collect();
        run(Command::new(program("layerfs")?)
            .arg("mount")
            .arg(stack.join(":"))
            .arg(root))?;
        Ok(Mounted {
            root: root.to_owned(),
            below: Vec::new(),
        })
    }

    /// The squashfs image under an overlayfs with an upper on a tmpfs, as live systems have it.
    ///
    /// # Errors
    /// What mount(8) says.
    pub fn squashfs_under_overlayfs(image: &Path, place: &Path) -> Result<Mounted, Failure> {
        let mut mounted = Mounted {
            root: place.join("root"),
            below: Vec::new(),
        };
        let (lower, upper) = (place.join("lower"), place.join("upper"));
        for directory in [&lower, &upper, &mounted.root] {
            fs::create_dir_all(directory)?;
        }
        run(Command::new("mount")
            .args(["-t", "squashfs", "-o", "ro,loop"])
            .args([image, &lower]))?;
        mounted.below.push(lower.clone());
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&upper))?;
        mounted.below.push(upper.clone());
        let (written, work) = (upper.join("upper"), upper.join("work"));
        fs::create_dir(&written)?;
        fs::create_dir(&work)?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            written.display(),
            work.display()
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "-o", &options, "overlay"])
            .arg(&mounted.root))?;
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let places = std::iter::once(&self.root).chain(self.below.iter().rev());
        for place in places {
            let gone = || run(Command::new("umount").arg(place)).is_ok();
            let _ = (0..50).any(|_| {
                gone() || {
                    std::thread::sleep(Duration::from_millis(100));
                    false
                }
            });
        }
    }
}

/// Writes back and drops every cache of the kernel.
///
/// # Errors
/// Not root.
pub fn drop_caches() -> Result<(), Failure> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
        .map_err(|e| format!("cannot drop caches: {e}; run as root").into())
}

/// Runs a command to its end, quietly.
///
/// # Errors
/// It cannot be started, or failed.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    // No pipes: a daemon would keep them open.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} failed: {status}").into()),
        Err(error) => Err(format!("cannot run {command:?}: {error}").into()),
    }
}

/// A program of this workspace, built beside the running one.
fn program(name: &str) -> Result<PathBuf, Failure> {
    let here = std::env::current_exe()?;
    let found = here
        .ancestors()
        .skip(1)
        .take(3)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| format!("no {name} beside {}: make build first", here.display()).into())
}
