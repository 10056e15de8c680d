//! `layerfs warm`: what the boot pack has goes into the page cache ahead of the boot.
//!
//! It runs beside the boot, not in the daemon: an ordinary client that asks the kernel for the pages, a
//! few large requests instead of thousands of small ones. It never waits for more than one chunk at once.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use layerfmt::trace::PAGE_LEN;
use rustix::fs::{Advice, Mode, OFlags, ResolveFlags};

use super::remote::{ask_parts, open_root};
use crate::fuse::session::ReadAhead;
use crate::mount_table;
use crate::prefetch::hot::{HotFile, decode};
use crate::sys::process::run_to_the_wait;

/// The kernel takes no more of one advice, pages.
const ADVICE_PAGES: u32 = 32;

/// Arguments of `layerfs warm`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where it is mounted
    #[arg(default_value = "/")]
    pub mountpoint: PathBuf,
}

/// Asks for every page of the boot pack, in the order it arrives.
///
/// # Errors
/// When nothing of a server is mounted there.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let at = || args.mountpoint.display().to_string();
    let root = open_root(&args.mountpoint)?;
    let files = decode(&ask_parts(&root, "pack").with_context(at)?);
    if files.is_empty() {
        bail!("{}: there is no boot pack", args.mountpoint.display());
    }
    // Or the daemon would have the processor after each request, on a machine with one: it answers those of
    // a chunk in one go.
    let _ = run_to_the_wait();
    // While there is a /sys.
    let read_ahead =
        mount_table::device_now(&args.mountpoint).and_then(|device| ReadAhead::of(&device));
    // Whether the chunk that the next file lies in has not been waited for yet.
    let mut wait = false;
    for file in &files {
        wait |= file.begins_chunk;
        // What is gone, replaced or below another mount by now is not ours to warm.
        if let Ok(open) = open(&root, &file.path) {
            warm(&open, file, &mut wait);
        }
    }
    read_ahead.iter().for_each(super::remote::is_warm);
    Ok(ExitCode::SUCCESS)
}

fn open(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt as _;
    rustix::fs::openat2(
        root,
        Path::new(std::ffi::OsStr::from_bytes(path)),
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS,
    )
}

/// Asks for the runs of a file; of the first in a chunk, waits for the first page: then the chunk is here,
/// and the other pages in it are at hand.
fn warm(file: &OwnedFd, hot: &HotFile, wait: &mut bool) {
    for (first, count) in &hot.runs {
        let end = first.saturating_add(*count);
        let mut page = *first;
        while page < end {
            let count = ADVICE_PAGES.min(end - page);
            let (at, len) = (u64::from(page) * PAGE_LEN, u64::from(count) * PAGE_LEN);
            let _ = rustix::fs::fadvise(file, at, std::num::NonZeroU64::new(len), Advice::WillNeed);
            if std::mem::take(wait) && rustix::io::pread(file, &mut [0], at).is_err() {
                return;
            }
            page += count;
        }
    }
}
