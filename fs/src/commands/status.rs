//! The command `layerfs status`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use rustix::io::Errno;

use crate::cli::StatusArgs;
use crate::status::{STATUS_XATTR, Status};

/// Longest status, bytes: the kernel's own limit of an attribute's value.
const STATUS_LEN_MAX: usize = 65536;

/// Print the status of a mount.
///
/// # Errors
/// Nothing of ours is mounted there, or its daemon is dead.
pub fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let status = read(&args.mountpoint)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", status.human());
    }
    Ok(ExitCode::SUCCESS)
}

/// Ask the mount for its status.
///
/// # Errors
/// As [`run`].
pub fn read(mountpoint: &Path) -> anyhow::Result<Status> {
    let mut value = vec![0; STATUS_LEN_MAX];
    match rustix::fs::getxattr(mountpoint, STATUS_XATTR, &mut value[..]) {
        Ok(len) => serde_json::from_slice(value.get(..len).unwrap_or_default())
            .with_context(|| format!("{}: its status cannot be parsed", mountpoint.display())),
        Err(Errno::NOTCONN) => bail!(
            "{}: its daemon is dead: mount again over it, or unmount it",
            mountpoint.display()
        ),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => {
            bail!("{}: no layerfs is mounted there", mountpoint.display())
        }
        Err(errno) => Err(errno).with_context(|| mountpoint.display().to_string()),
    }
}
