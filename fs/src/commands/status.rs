//! The command `layerfs status`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use rustix::io::Errno;

use crate::limits::STATUS_LEN_MAX;
use crate::mount_table;
use crate::status::{STATUS_XATTR, Status};

/// Arguments of `layerfs status`.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// The mount point
    pub mountpoint: std::path::PathBuf,
    /// Also ask the server for the newest revision, and what a switch to it would change (root)
    #[arg(long)]
    pub check: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Print the status of a mount.
///
/// # Errors
/// Nothing of ours is mounted there, or its daemon is dead.
pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    // First, so that the status names the newest revision too.
    let offer = match args.check {
        true => Some(super::follow::newest(&args.mountpoint)?),
        false => None,
    };
    let status = read(&args.mountpoint)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", status.human());
        if let Some(offer) = offer {
            println!("{offer}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The error for a path that is not the root of a layerfs mount; it lists the mounts that exist.
pub(super) fn not_a_mount(mountpoint: &Path) -> anyhow::Error {
    let points = mount_table::layerfs_points(&mount_table::read().unwrap_or_default());
    let points: Vec<String> = points
        .iter()
        .map(|point| point.display().to_string())
        .collect();
    let known = match points.is_empty() {
        true => String::from("no layerfs is mounted"),
        false => format!("layerfs is mounted on {}", points.join(", ")),
    };
    anyhow::anyhow!("{}: not a layerfs mount ({known})", mountpoint.display())
}

/// Fails with [`not_a_mount`] unless `root` is the root directory of a layerfs mount.
pub(super) fn require_mount(root: &OwnedFd, mountpoint: &Path) -> anyhow::Result<()> {
    let mut value = vec![0; STATUS_LEN_MAX];
    match rustix::fs::fgetxattr(root, STATUS_XATTR, &mut value[..]) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Err(not_a_mount(mountpoint)),
        _ => Ok(()),
    }
}

/// Ask the mount for its status.
///
/// # Errors
/// The errors of [`run`].
pub(crate) fn read(mountpoint: &Path) -> anyhow::Result<Status> {
    let mut value = vec![0; STATUS_LEN_MAX];
    match rustix::fs::getxattr(
        mount_table::served(mountpoint),
        STATUS_XATTR,
        &mut value[..],
    ) {
        Ok(len) => serde_json::from_slice(value.get(..len).unwrap_or_default())
            .with_context(|| format!("{}: its status cannot be parsed", mountpoint.display())),
        Err(Errno::NOTCONN) => bail!(
            "{}: its daemon is dead: mount again over it, or unmount it",
            mountpoint.display()
        ),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Err(not_a_mount(mountpoint)),
        Err(errno) => Err(errno).with_context(|| mountpoint.display().to_string()),
    }
}
