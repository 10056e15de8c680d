//! systemd's record of this boot: its timestamps, as printed by `systemctl show`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

/// Exists if and only if systemd is this system's init.
const RUNS: &str = "/run/systemd/system";
/// The unit that ends a boot; its real name differs between systems.
pub(crate) const DEFAULT_UNIT: &str = "default.target";

/// A unit and when it was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its own name: `default.target` is an alias of it.
    pub name: String,
    /// Milliseconds since the kernel's start; none if it is not reached yet.
    pub active_ms: Option<u64>,
}

/// When the stages of this boot began, milliseconds since the kernel's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stages {
    /// The initramfs' systemd.
    pub initrd_ms: Option<u64>,
    /// The system's own.
    pub userspace_ms: Option<u64>,
    /// The time at which no start job was left.
    pub finished_ms: Option<u64>,
}

/// True if systemd is the init of this system.
pub(crate) fn runs() -> bool {
    Path::new(RUNS).is_dir()
}

/// Queries a unit.
///
/// # Errors
/// systemd does not answer, or has no such unit.
pub(crate) fn unit(name: &str) -> anyhow::Result<Unit> {
    let names = "--property=Id,LoadState,ActiveEnterTimestampMonotonic";
    parse_unit(&show(&[names, "--", name])?).with_context(|| name.to_owned())
}

/// Queries the stages.
///
/// # Errors
/// systemd does not answer.
pub(crate) fn stages() -> anyhow::Result<Stages> {
    let names =
        "--property=InitRDTimestampMonotonic,UserspaceTimestampMonotonic,FinishTimestampMonotonic";
    Ok(parse_stages(&show(&[names])?))
}

fn show(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("systemctl")
        .args(["show", "--no-pager"])
        .args(arguments)
        .output()
        .context("cannot run systemctl")?;
    if !output.status.success() {
        bail!(
            "systemctl show: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_unit(text: &str) -> anyhow::Result<Unit> {
    match value(text, "LoadState") {
        Some("loaded") => {}
        state => bail!("systemd has no such unit ({})", state.unwrap_or("?")),
    }
    Ok(Unit {
        name: value(text, "Id").context("a unit without a name")?.into(),
        active_ms: milliseconds(text, "ActiveEnterTimestampMonotonic"),
    })
}

fn parse_stages(text: &str) -> Stages {
    Stages {
        initrd_ms: milliseconds(text, "InitRDTimestampMonotonic"),
        userspace_ms: milliseconds(text, "UserspaceTimestampMonotonic"),
        finished_ms: milliseconds(text, "FinishTimestampMonotonic"),
    }
}

/// The value of one line `NAME=VALUE`.
fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// Microseconds as milliseconds; systemd writes 0 for "never".
fn milliseconds(text: &str, name: &str) -> Option<u64> {
    let micros: u64 = value(text, name)?.parse().ok()?;
    (micros > 0).then_some(micros.div_ceil(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_systemctl_prints() {
        let reached =
            "Id=graphical.target\nLoadState=loaded\nActiveEnterTimestampMonotonic=9312345\n";
        let unit = parse_unit(reached).unwrap();
        assert_eq!(unit.name, "graphical.target");
        assert_eq!(unit.active_ms, Some(9_313));
        let not_yet = "Id=a.target\nLoadState=loaded\nActiveEnterTimestampMonotonic=0\n";
        assert_eq!(parse_unit(not_yet).unwrap().active_ms, None);
        assert!(parse_unit("Id=b.target\nLoadState=not-found\n").is_err());
        assert!(parse_unit("").is_err());
        let stages = parse_stages(
            "InitRDTimestampMonotonic=0\nUserspaceTimestampMonotonic=2500000\nFinishTimestampMonotonic=\n",
        );
        assert_eq!(stages.userspace_ms, Some(2_500));
        assert_eq!((stages.initrd_ms, stages.finished_ms), (None, None));
    }
}
