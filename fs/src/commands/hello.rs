//! `layerfs hello`: tells the fleet how this machine is.

mod health;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use wire::hello::{Fill, Hello, Step, line};

use crate::control::Command;
use crate::net::hello::hello;
use crate::status::Status;
use crate::sys::process::since_start_ms;
use crate::systemd;

/// Interval of the questions to systemd about the end of the boot.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A boot that takes longer has not reached its target: the hello says so.
const BOOT_MAX: Duration = Duration::from_secs(10 * 60);
/// The share of the time between two hellos by which each is moved, so that a room does not speak at once.
const JITTER_PERCENT: u64 = 20;

/// Arguments of `layerfs hello`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the system is mounted
    #[arg(default_value = "/")]
    mountpoint: PathBuf,
    /// The unit that ends the boot
    #[arg(long, default_value = systemd::DEFAULT_UNIT)]
    unit: String,
    /// Wait until that is reached, then say hello again and again, so many seconds apart
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(10..=86400))]
    every: Option<u64>,
    /// The site's own checks: programs that fail when something is wrong
    #[arg(long, value_name = "DIR", default_value = "/etc/layerfs/health.d")]
    checks: PathBuf,
    /// Print the hello as JSON, and send nothing
    #[arg(long)]
    print: bool,
}

/// Says hello, once or for ever.
///
/// # Errors
/// No layerfs of a server is mounted there, or no server takes a hello.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let status = super::status::read(&args.mountpoint)?;
    let Some(source) = &status.source else {
        bail!(
            "{}: a mount of local layers has no server to say hello to",
            args.mountpoint.display()
        );
    };
    if source.get("reports") == Some(&false.into()) {
        eprintln!("layerfs: layerfs.report=no is on the command line: nothing is said");
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
        // A server that is away now may be there next time.
        let said = look(args).and_then(|hello| send(&args.mountpoint, &hello));
        if let Err(error) = said {
            eprintln!("layerfs: {error:#}");
        }
        std::thread::sleep(apart(every, since_start_ms()));
    }
}

/// The time to the next hello: `every` seconds and up to a fifth more, by the boot's name and the moment.
fn apart(every: u64, moment: u64) -> Duration {
    let seed = format!("{}{moment}", crate::hardware::boot_id());
    let [byte, ..] = *blake3::hash(seed.as_bytes()).as_bytes();
    let more = every * JITTER_PERCENT * u64::from(byte) / 255 / 100;
    Duration::from_secs(every + more)
}

/// Waits until the unit is reached and systemd has nothing left to start.
fn wait_for_boot(args: &Args) -> anyhow::Result<()> {
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

/// Makes a hello of the machine's present state.
fn look(args: &Args) -> anyhow::Result<Hello> {
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

/// The part of a hello that the mount knows.
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

/// Has the mount send it: it knows the servers, and what they were called when there was a resolver.
fn send(mountpoint: &Path, hello: &Hello) -> anyhow::Result<()> {
    let value = hello.encode()?;
    match rustix::fs::setxattr(mountpoint, Command::HELLO, &value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::IO) => bail!("{}: no server took the hello", mountpoint.display()),
        Err(Errno::PERM | Errno::ACCESS) => bail!("only root may say hello"),
        Err(errno) => Err(anyhow::Error::new(errno).context(mountpoint.display().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/FLEET.md F3.5: each hello is up to a fifth later.
    #[test]
    fn hellos_are_spread() {
        let times: Vec<u64> = (0..200).map(|at| apart(300, at).as_secs()).collect();
        assert!(times.iter().all(|time| (300..=360).contains(time)));
        assert!(times.iter().any(|time| *time < 315) && times.iter().any(|time| *time > 345));
    }
}
