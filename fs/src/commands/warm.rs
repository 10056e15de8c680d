//! `layerfs initramfs warm`: reads the boot pack's pages into the page cache, ahead of the boot.
//!
//! It runs during the boot, outside the daemon: an ordinary client that requests the pages from the
//! kernel, in a few large requests instead of thousands of small ones. It never waits for more than
//! one chunk at a time. While the mount is unused the daemon stores the pages directly, without a
//! request for each.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use rustix::fs::{Advice, Mode, OFlags, ResolveFlags};

use super::mount::READY;
use super::remote::{ask, ask_parts, open_root};
use crate::chunks::hot::{HotFile, decode};
use crate::control::Question;
use crate::fuse::session::ReadAhead;
use crate::mount_table;
use crate::sys::process::run_to_the_wait;

/// Maximum number of pages for one advice.
const ADVICE_PAGES: u32 = 32;

/// Arguments of `layerfs initramfs warm`.
#[derive(Debug, Clone, clap::Args)]
pub struct WarmArgs {
    /// The mount point
    #[arg(default_value = "/")]
    pub mountpoint: PathBuf,
    /// The mount is unused until this prints "ready": store the received part of the pack directly
    #[arg(long)]
    pub before_use: bool,
}

/// Requests every page of the boot pack, in the order of arrival.
///
/// # Errors
/// No system of a server is mounted there.
pub(crate) fn run(args: &WarmArgs) -> anyhow::Result<ExitCode> {
    let at = || args.mountpoint.display().to_string();
    let root = open_root(&args.mountpoint)?;
    let files = decode(&ask_parts(&root, Question::Pack).with_context(at)?);
    if files.is_empty() {
        super::status::require_mount(&root, &args.mountpoint)?;
        bail!("{}: there is no boot pack", args.mountpoint.display());
    }
    // Otherwise, on a machine with one processor, the daemon would run after each request; now it answers all
    // requests of a chunk in one go.
    let _ = run_to_the_wait();
    // Before /sys is unmounted.
    let read_ahead = mount_table::device_now(mount_table::served(&args.mountpoint))
        .and_then(|device| ReadAhead::of(&device));
    let mut stored = 0;
    if args.before_use {
        stored = store(&root, &files);
        let mut out = std::io::stdout();
        // A caller that does not wait need not read this.
        let _ = out.write_all(READY).and_then(|()| out.flush());
    }
    // True if the chunk of the next file is not known to be local yet.
    let mut wait = false;
    for file in files.get(stored..).unwrap_or_default() {
        wait |= file.begins_chunk;
        // Files that are deleted, replaced or below another mount are skipped.
        if let Ok(open) = open(&root, &file.path, OFlags::RDONLY | OFlags::NONBLOCK) {
            warm(&open, file, &mut wait);
        }
    }
    read_ahead.iter().for_each(super::remote::is_warm);
    Ok(ExitCode::SUCCESS)
}

/// Makes the daemon store the available pages of `files`, as long as the pack arrives; returns the
/// number of files done.
fn store(root: &OwnedFd, files: &[HotFile]) -> usize {
    // The kernel stores pages only of files that it knows.
    for file in files {
        let _ = open(root, &file.path, OFlags::PATH);
    }
    let answer = ask(root, Question::StorePages)
        .ok()
        .flatten()
        .unwrap_or_default();
    String::from_utf8_lossy(&answer).parse().unwrap_or(0)
}

fn open(root: &OwnedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt as _;
    rustix::fs::openat2(
        root,
        Path::new(std::ffi::OsStr::from_bytes(path)),
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS,
    )
}

/// Requests the runs of a file; for the first file of a chunk it waits for the first page: then the
/// chunk is local, and so are its other pages.
fn warm(file: &OwnedFd, hot: &HotFile, wait: &mut bool) {
    for (at, len) in hot.parts(ADVICE_PAGES) {
        let len = std::num::NonZeroU64::new(len as u64);
        let _ = rustix::fs::fadvise(file, at, len, Advice::WillNeed);
        if std::mem::take(wait) && rustix::io::pread(file, &mut [0], at).is_err() {
            return;
        }
    }
}
