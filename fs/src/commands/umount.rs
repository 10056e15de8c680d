//! `layerfs umount`: returns when the daemon has released the upper.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags};

use crate::mount_table;

/// Arguments of `layerfs umount`.
#[derive(Debug, Clone, clap::Args)]
pub struct UmountArgs {
    /// The mount point
    pub mountpoint: std::path::PathBuf,
    /// Detach now, and end when nothing uses the mount any more
    #[arg(short, long)]
    pub lazy: bool,
    /// Seconds to wait for the daemon to end
    #[arg(long, default_value_t = 30)]
    pub wait: u64,
}

/// Unmount and wait.
///
/// # Errors
/// The mount is busy, or the daemon does not end in time.
pub(crate) fn run(args: &UmountArgs) -> anyhow::Result<ExitCode> {
    let at = || args.mountpoint.display().to_string();
    let Ok(status) = super::status::read(&args.mountpoint) else {
        // The daemon is dead: there is no process to wait for.
        if !is_listed(&args.mountpoint) {
            return Err(super::status::not_a_mount(&args.mountpoint));
        }
        detach(&args.mountpoint, true).with_context(at)?;
        return Ok(ExitCode::SUCCESS);
    };
    let daemon = i32::try_from(status.pid)
        .ok()
        .and_then(Pid::from_raw)
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    detach(&args.mountpoint, args.lazy).with_context(at)?;
    let Some(daemon) = daemon.filter(|_| !args.lazy) else {
        return Ok(ExitCode::SUCCESS);
    };
    let limit = Duration::from_secs(args.wait);
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    let mut ends = [PollFd::new(&daemon, PollFlags::IN)];
    match rustix::event::poll(&mut ends, Some(&limit)) {
        Ok(0) => bail!(
            "{}: unmounted, but the daemon (process {}) still runs",
            at(),
            status.pid
        ),
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(errno) => Err(errno).with_context(at),
    }
}

/// True if the kernel lists a layerfs at `mountpoint`, or if its list cannot be read.
fn is_listed(mountpoint: &Path) -> bool {
    let Some(table) = mount_table::read() else {
        return true;
    };
    // The mount point itself is not looked at: its daemon may be dead.
    let directory = match mountpoint.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => mountpoint,
    };
    let point = directory
        .canonicalize()
        .map(|directory| match mountpoint.file_name() {
            Some(name) => directory.join(name),
            None => directory,
        });
    let points = mount_table::layerfs_points(&table);
    point.is_ok_and(|point| points.contains(&point))
}

/// Unmounts, as an ordinary user by fusermount3; with `lazy` also while the mount is in use.
///
/// # Errors
/// It is in use, belongs to another user, or is not mounted.
pub(super) fn detach(mountpoint: &Path, lazy: bool) -> anyhow::Result<()> {
    let flags = if lazy {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    match rustix::mount::unmount(mountpoint, flags) {
        Err(Errno::PERM) => {}
        other => return Ok(other?),
    }
    let mut command = Command::new("fusermount3");
    command.arg("-u").arg("-q");
    if lazy {
        command.arg("-z");
    }
    let status = command
        .arg("--")
        .arg(mountpoint)
        .status()
        .context("fusermount3")?;
    if !status.success() {
        bail!("fusermount3 cannot unmount it: it may be in use or belong to another user");
    }
    Ok(())
}
