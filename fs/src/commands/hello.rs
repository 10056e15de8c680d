//! `layerfs hello`: reports the health of this machine to the fleet.

mod health;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use wire::hello::{Fill, Hello, Step, line};

use crate::control::Command;
use crate::mount_table;
use crate::net::hello::hello;
use crate::status::Status;
use crate::sys::process::since_start_ms;
use crate::systemd;

/// Interval of the queries to systemd about the end of the boot.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longest wait for the end of the boot. After that the hello reports a boot without its target.
const BOOT_MAX: Duration = Duration::from_secs(10 * 60);
/// Largest random delay of a hello, per cent of the interval. It spreads the hellos of a room.
const JITTER_PERCENT: u64 = 20;

/// Arguments of `layerfs hello`.
#[derive(Debug, Clone, clap::Args)]
pub struct HelloArgs {
    /// Mount point of the system
    #[arg(default_value = "/")]
    mountpoint: PathBuf,
    /// The unit that ends the boot
    #[arg(long, default_value = systemd::DEFAULT_UNIT)]
    unit: String,
    /// Wait for the unit of --unit, then send a hello every SECONDS
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(10..=86400))]
    every: Option<u64>,
    /// Directory of the site's checks: programs whose failure means bad health
    #[arg(long, value_name = "DIR", default_value = "/etc/layerfs/health.d")]
    checks: PathBuf,
    /// Print the hello as JSON instead of sending it
    #[arg(long)]
    print: bool,
}

/// Sends one hello, or one in each interval for ever.
///
/// # Errors
/// The mount point has no layerfs of a server, or no server accepts the hello.
pub(crate) fn run(args: &HelloArgs) -> anyhow::Result<ExitCode> {
    let status = super::status::read(&args.mountpoint)?;
    let Some(source) = &status.source else {
        bail!(
            "{}: a mount of local layers has no server for hellos",
            args.mountpoint.display()
        );
    };
    if source.get("reports") == Some(&false.into()) {
        eprintln!("layerfs: layerfs.report=no is on the kernel command line: no hello is sent");
        return Ok(ExitCode::SUCCESS);
    }
    let Some(every) = args.every else {
        let hello = look(args)?;
        if args.print {
            println!("{}", serde_json::to_string_pretty(&hello)?);
        } else {
            send(&args.mountpoint, &hello)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    wait_for_boot(args)?;
    loop {
        // An unreachable server may answer the next time.
        let said = look(args).and_then(|hello| send(&args.mountpoint, &hello));
        if let Err(error) = said {
            eprintln!("layerfs: {error:#}");
        }
        std::thread::sleep(apart(every, since_start_ms()));
    }
}

/// The time to the next hello: `every` seconds plus up to a fifth, derived from the boot's id and
/// `moment`.
pub(super) fn apart(every: u64, moment: u64) -> Duration {
    let seed = format!("{}{moment}", crate::hardware::boot_id());
    let [byte, ..] = *blake3::hash(seed.as_bytes()).as_bytes();
    let more = every * JITTER_PERCENT * u64::from(byte) / 255 / 100;
    Duration::from_secs(every + more)
}

/// Waits until the unit is active and systemd has no start jobs left.
fn wait_for_boot(args: &HelloArgs) -> anyhow::Result<()> {
    let since = Instant::now();
    while systemd::runs() && since.elapsed() < BOOT_MAX {
        let reached = systemd::unit(&args.unit)?.active_ms.is_some();
        if reached && !matches!(health::state().as_str(), "initializing" | "starting") {
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Collects the present state of the machine into a hello.
fn look(args: &HelloArgs) -> anyhow::Result<Hello> {
    let status = super::status::read(&args.mountpoint)?;
    let target_ms = match systemd::runs() {
        true => systemd::unit(&args.unit)?.active_ms,
        false => None,
    };
    let over = !systemd::runs() || target_ms.is_some();
    let step = if over { Step::Target } else { Step::Mounted };
    Ok(Hello {
        target_ms,
        health: over.then(|| health::look(&args.checks)),
        ..of_status(&status, step, &args.mountpoint)
    })
}

/// Builds a hello from the status of the mount.
fn of_status(status: &Status, step: Step, mountpoint: &Path) -> Hello {
    let nothing = serde_json::Value::Null;
    let source = status.source.as_ref().unwrap_or(&nothing);
    let word = |name: &str| source.get(name).and_then(serde_json::Value::as_str);
    let upper = rustix::fs::statvfs(mountpoint).ok().map(|fs| Fill {
        used: fs.f_blocks.saturating_sub(fs.f_bfree) * fs.f_frsize,
        size: fs.f_blocks * fs.f_frsize,
    });
    Hello {
        bytes: source.get("bytes").and_then(serde_json::Value::as_u64),
        cache: line(word("cache").unwrap_or_default()),
        upper,
        kernel: line(&rustix::system::uname().release().to_string_lossy()),
        version: line(&status.version),
        ..hello(step, word("revision").unwrap_or_default())
    }
}

/// Passes the hello to the mount, which sends it: the mount knows the servers and their resolved
/// addresses.
fn send(mountpoint: &Path, hello: &Hello) -> anyhow::Result<()> {
    let value = hello.encode()?;
    let served = mount_table::served(mountpoint);
    match rustix::fs::setxattr(served, Command::HELLO, &value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::HOSTUNREACH) => bail!("{}: no server accepted the hello", mountpoint.display()),
        Err(Errno::PERM | Errno::ACCESS) => bail!("only root may send a hello"),
        Err(errno) => Err(anyhow::Error::new(errno).context(mountpoint.display().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/FLEET.md F3.5: each hello is delayed by up to a fifth.
    #[test]
    fn hellos_are_spread() {
        let times: Vec<u64> = (0..200).map(|at| apart(300, at).as_secs()).collect();
        assert!(times.iter().all(|time| (300..=360).contains(time)));
        assert!(times.iter().any(|time| *time < 315) && times.iter().any(|time| *time > 345));
    }
}
