//! `layerfs bench-boot`: duration and costs of the current boot.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::HumanBytes;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use wire::boot_report::{BootReport, Clock, Times};
use wire::counts::Counts;

use crate::control::{Command, Question};
use crate::mount_table;
use crate::status::Status;
use crate::sys::process::since_start_ms;
use crate::systemd;

/// Interval of the queries to systemd for the end of the boot.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for the end of the boot.
const WAIT_MAX: Duration = Duration::from_secs(30 * 60);

/// Arguments of `layerfs bench-boot`.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchBootArgs {
    /// The mount point of the system
    #[arg(default_value = "/")]
    mountpoint: PathBuf,
    /// The unit that ends the boot
    #[arg(long, default_value = systemd::DEFAULT_UNIT)]
    unit: String,
    /// Wait until the unit is reached, at most half an hour
    #[arg(long)]
    wait: bool,
    /// Send the report to the server, and then the boot's trace
    #[arg(long)]
    send: bool,
    /// Seconds for which the trace continues after the unit was reached
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=300))]
    settle: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the report, and sends it on request.
///
/// # Errors
/// No layerfs is mounted there, systemd does not answer, or no server accepts the report.
pub(crate) fn run(args: &BenchBootArgs) -> anyhow::Result<ExitCode> {
    let Some(times) = times(args)? else {
        eprintln!(
            "layerfs: {} is not reached yet: try again later, or use --wait",
            args.unit
        );
        return Ok(ExitCode::from(1));
    };
    let status = super::status::read(&args.mountpoint)?;
    let report = report(&status, times);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", human(&report));
    }
    if !args.send {
        return Ok(ExitCode::SUCCESS);
    }
    if status.source.is_none() {
        bail!(
            "{}: a mount of local layers has no server for the report",
            args.mountpoint.display()
        );
    }
    let sent = send(&args.mountpoint, &report);
    // Send the trace even if the report failed.
    std::thread::sleep(Duration::from_secs(args.settle));
    let root = super::remote::open_root(&args.mountpoint)?;
    let trace = super::remote::ask(&root, Question::SendTrace);
    sent?;
    match trace? {
        Some(answer) => eprintln!("report and trace {}", String::from_utf8_lossy(&answer)),
        None => bail!(
            "{}: the report was sent, but no server took the trace: see its log",
            args.mountpoint.display()
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// The times of the stages of the boot; none while the boot is not over.
fn times(args: &BenchBootArgs) -> anyhow::Result<Option<Times>> {
    if !systemd::runs() {
        return Ok(Some(Times {
            clock: Clock::Uptime,
            unit: String::new(),
            initrd_ms: None,
            mounted_ms: None,
            userspace_ms: None,
            target_ms: since_start_ms(),
            finished_ms: None,
            counted_ms: since_start_ms(),
        }));
    }
    let since = Instant::now();
    loop {
        let unit = systemd::unit(&args.unit)?;
        if let Some(target_ms) = unit.active_ms {
            let stages = systemd::stages()?;
            return Ok(Some(Times {
                clock: Clock::Systemd,
                unit: unit.name,
                initrd_ms: stages.initrd_ms,
                mounted_ms: None,
                userspace_ms: stages.userspace_ms,
                target_ms,
                finished_ms: stages.finished_ms,
                counted_ms: since_start_ms(),
            }));
        }
        if !args.wait {
            return Ok(None);
        }
        if since.elapsed() > WAIT_MAX {
            bail!("{}: not reached within half an hour", args.unit);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn report(status: &Status, times: Times) -> BootReport {
    let nothing = serde_json::Value::Null;
    // The daemon from the initramfs may be older than this program: missing counters are 0.
    let source = status.source.as_ref().unwrap_or(&nothing);
    let count = |name: &str| source.get(name).and_then(serde_json::Value::as_u64);
    let count = |name: &str| count(name).unwrap_or(0);
    let word = |name: &str| source.get(name).and_then(serde_json::Value::as_str);
    let mut report = BootReport::new(word("revision").unwrap_or("local layers"), times);
    report.times.mounted_ms = Some(status.mounted_ms).filter(|ms| *ms > 0);
    report.counts = Counts::by_name(count);
    report.offline = source.get("offline") == Some(&true.into());
    report.pack = line(word("pack").unwrap_or("none"));
    report.memory_kib = kib_of("/proc/meminfo", "MemTotal:").unwrap_or(0);
    report.daemon_kib = kib_of(&format!("/proc/{}/status", status.pid), "VmRSS:").unwrap_or(0);
    report.kernel = line(&rustix::system::uname().release().to_string_lossy());
    report.version = line(&status.version);
    report
}

/// The part of a text that fits a report, as one line.
fn line(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii() && !c.is_control())
        .take(128)
        .collect()
}

/// The number behind `name` in a file of /proc whose lines are `NAME: N kB`.
fn kib_of(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Sends it through the mount, which knows the servers and their addresses from before switch_root.
fn send(mountpoint: &Path, report: &BootReport) -> anyhow::Result<()> {
    let name = Command::BOOT_REPORT;
    let value = report.encode()?;
    let served = mount_table::served(mountpoint);
    match rustix::fs::setxattr(served, name, &value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::HOSTUNREACH) => bail!(
            "{}: no server took the report: see its log",
            mountpoint.display()
        ),
        Err(Errno::ROFS) => bail!(
            "{}: mounted read-only: only a writable root can send a report",
            mountpoint.display()
        ),
        Err(Errno::PERM | Errno::ACCESS) => bail!("only root may send a report"),
        Err(errno) => Err(errno).with_context(|| mountpoint.display().to_string()),
    }
}

fn human(report: &BootReport) -> String {
    let mut text = String::new();
    let times = &report.times;
    let until = match times.clock {
        Clock::Systemd => times.unit.as_str(),
        Clock::Uptime => "now (without systemd the end of the boot is unknown)",
    };
    let target = seconds(times.target_ms);
    let _ = writeln!(
        text,
        "{}: {target} s from the kernel's start to {until}",
        report.revision
    );
    for (what, at) in [
        ("systemd in the initramfs", times.initrd_ms),
        ("root mounted", times.mounted_ms),
        ("init of the system", times.userspace_ms),
        ("everything started", times.finished_ms),
    ] {
        if let Some(at) = at {
            let _ = writeln!(text, "  {:>8} s  {what}", seconds(at));
        }
    }
    // Local layers have no counters of servers.
    if report.revision_name().is_ok() {
        text.push_str(&network(report));
    }
    let _ = writeln!(
        text,
        "memory: {} MiB, {} MiB of it for the daemon; Linux {}; layerfs {}",
        report.memory_kib >> 10,
        report.daemon_kib >> 10,
        report.kernel,
        report.version
    );
    text
}

fn network(report: &BootReport) -> String {
    let mut text = String::new();
    let (times, counts) = (&report.times, &report.counts);
    let _ = writeln!(
        text,
        "until {} s: {} received ({} bytes), {} requests, {} retries, {} s waited for a server",
        seconds(times.counted_ms),
        HumanBytes(counts.bytes),
        counts.bytes,
        counts.requests,
        counts.retries,
        counts.waited_s
    );
    let _ = writeln!(
        text,
        "chunks: {} from the boot pack ({}), {} on demand, {} ahead; {} cache hits, {} backup hits, {} refused",
        counts.pack_chunks,
        report.pack,
        counts.demanded,
        counts.prefetched,
        counts.cache_hits,
        counts.backup_hits,
        counts.corrupt
    );
    if report.offline {
        let _ = writeln!(text, "started from local storage: no server answered");
    }
    text
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
