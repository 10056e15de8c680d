//! The command `layerfs switch`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::old_files::{self, OldFiles};
use super::remote::{ask_parts, open_root};
use super::status::require_mount;
use crate::control::{Command, Question};
use crate::switch::{SwitchOutcome, SwitchReport, SwitchRequest};

/// The file by which Debian's and Ubuntu's tools know that a restart is due.
const REBOOT_REQUIRED: &str = "/run/reboot-required";
/// Services that are not restarted: sessions and the system bus end with them.
const NOT_RESTARTED: [&str; 8] = [
    "dbus",
    "dbus-broker",
    "display-manager",
    "gdm",
    "lightdm",
    "sddm",
    "systemd-logind",
    "user@",
];
/// Conflicts and programs that the text lists.
const LISTED: usize = 20;

/// Arguments of `layerfs switch`.
#[derive(Debug, Clone, clap::Args)]
pub struct SwitchArgs {
    /// The revision (default: the newest of the mounted system)
    #[arg(value_name = "[SYSTEM[/PROFILE]][@REV]", default_value = "")]
    pub revision: String,
    /// The mount point
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub mount: PathBuf,
    /// Only show what would change, and the conflicts
    #[arg(long)]
    pub dry_run: bool,
    /// Switch in spite of conflicts: the upper wins. Experimental: single names can differ until the
    /// next mount
    #[arg(long)]
    pub force: bool,
    /// Restart the systemd services that use old files, except those that end sessions
    #[arg(long)]
    pub restart_units: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// The result as JSON.
#[derive(Debug, serde::Serialize)]
struct Printed<'r> {
    #[serde(flatten)]
    report: &'r SwitchReport,
    /// The programs that use files of the revision before.
    programs: &'r [OldFiles],
    /// The services that were restarted.
    restarted: &'r [String],
}

/// Switches a mount.
///
/// # Errors
/// No system of a server is mounted there, or the revision cannot be used.
pub(crate) fn run(args: &SwitchArgs) -> anyhow::Result<ExitCode> {
    let at = || args.mount.display().to_string();
    let root = open_root(&args.mount)?;
    require_mount(&root, &args.mount)?;
    let request = SwitchRequest {
        to: args.revision.clone(),
        dry_run: args.dry_run,
        force: args.force,
    };
    let request = serde_json::to_vec(&request)?;
    match rustix::fs::fsetxattr(&root, Command::SWITCH, &request, XattrFlags::empty()) {
        Ok(()) => {}
        Err(Errno::BUSY) => bail!("{}: a switch is running: try again when it has ended", at()),
        Err(Errno::PERM | Errno::ACCESS) => bail!("{}: only root may switch a mount", at()),
        Err(Errno::ROFS) => bail!(
            "{}: this mount has no other revisions: only a system of a server can switch",
            at()
        ),
        Err(errno) => return Err(errno).with_context(at),
    }
    let bytes = ask_parts(&root, Question::SwitchReport).with_context(at)?;
    if bytes.is_empty() {
        // The attribute was stored as any other.
        let _ = rustix::fs::fremovexattr(&root, Command::SWITCH);
        bail!(
            "{}: this mount has no other revisions: only root can switch, and only a system of a server",
            at()
        );
    }
    let report: SwitchReport = serde_json::from_slice(&bytes)
        .with_context(|| format!("{}: its answer cannot be parsed", at()))?;
    let (mut programs, mut restarted) = (Vec::new(), Vec::new());
    if report.outcome == SwitchOutcome::Done {
        if args.mount == Path::new("/") && !report.boot_differences.is_empty() {
            require_reboot();
        }
        programs = old_files::find(&root)?;
        if args.restart_units {
            restarted = restart(&programs)?;
            programs = old_files::find(&root)?;
        }
    }
    if args.json {
        let printed = Printed {
            report: &report,
            programs: &programs,
            restarted: &restarted,
        };
        println!("{}", serde_json::to_string_pretty(&printed)?);
    } else if report.outcome != SwitchOutcome::Failed {
        print!("{}", human(&report, &programs));
        if !restarted.is_empty() {
            println!("restarted: {}", restarted.join(", "));
        }
    }
    match report.outcome {
        SwitchOutcome::Done | SwitchOutcome::Same | SwitchOutcome::Planned => Ok(ExitCode::SUCCESS),
        SwitchOutcome::Refused => Ok(ExitCode::from(1)),
        SwitchOutcome::Failed if args.json => Ok(ExitCode::from(2)),
        SwitchOutcome::Failed => bail!(
            "{}: {}; the mount keeps {}",
            at(),
            report.error.as_deref().unwrap_or("the switch failed"),
            report.from
        ),
    }
}

/// Says that the machine needs a restart, as packages of Debian do.
fn require_reboot() {
    let text = "*** System restart required ***\n";
    if let Err(error) = std::fs::write(REBOOT_REQUIRED, text) {
        tracing::warn!(%error, REBOOT_REQUIRED, "cannot be written");
    }
}

/// Restarts the services of these programs; returns those that were restarted.
fn restart(programs: &[OldFiles]) -> anyhow::Result<Vec<String>> {
    let units = programs
        .iter()
        .filter_map(|program| program.unit.as_deref());
    let units: BTreeSet<&str> = units.filter(|unit| may_restart(unit)).collect();
    let mut restarted = Vec::new();
    for unit in units {
        let status = std::process::Command::new("systemctl")
            .args(["try-restart", "--", unit])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .status()
            .context("systemctl")?;
        match status.success() {
            true => restarted.push(unit.to_owned()),
            false => tracing::warn!(unit, %status, "cannot be restarted"),
        }
    }
    Ok(restarted)
}

fn may_restart(unit: &str) -> bool {
    let Some(name) = unit.strip_suffix(".service") else {
        return false;
    };
    let is = |kept: &str| match kept.ends_with('@') {
        true => name.starts_with(kept),
        false => name == kept,
    };
    !NOT_RESTARTED.iter().any(|kept| is(kept))
}

fn human(report: &SwitchReport, programs: &[OldFiles]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let to = report.to.as_deref().unwrap_or_default();
    let (from, changes) = (&report.from, report.changes);
    let first = match report.outcome {
        SwitchOutcome::Same => format!("{to} is mounted already"),
        SwitchOutcome::Planned => format!("{from} to {to}: {changes} names would change"),
        SwitchOutcome::Refused => format!("{from} to {to}: {changes} names would change; refused"),
        _ => format!(
            "{from} to {to}: {changes} names changed in {} ms",
            report.took_ms
        ),
    };
    let _ = writeln!(text, "{first}");
    if report.conflict_count > 0 {
        let count = report.conflict_count;
        let _ = writeln!(text, "conflicts: {count} (the upper wins)");
        for conflict in report.conflicts.iter().take(LISTED) {
            let (path, upper, revision) = (&conflict.path, &conflict.upper, &conflict.revision);
            let _ = writeln!(
                text,
                "  {path}: {upper} in the upper, the revision {revision}"
            );
        }
        if count > LISTED {
            let _ = writeln!(text, "  and {} more (--json lists them)", count - LISTED);
        }
    }
    if report.outcome == SwitchOutcome::Refused {
        let losing = report
            .conflicts
            .iter()
            .filter(|conflict| conflict.loses_data);
        let losing: Vec<&str> = losing.map(|conflict| conflict.path.as_str()).collect();
        let _ = match losing.is_empty() {
            true => writeln!(text, "--force switches all the same"),
            false => writeln!(
                text,
                "the revision does not have the data of {}: remove or rewrite these files first",
                losing.join(", ")
            ),
        };
    }
    if !report.boot_differences.is_empty() {
        let differences = report.boot_differences.join(", ");
        let _ = writeln!(text, "other with the next start: {differences}");
    }
    if !programs.is_empty() {
        let _ = writeln!(text, "programs with old files: {}", programs.len());
        for program in programs.iter().take(LISTED) {
            let unit = program.unit.as_deref().unwrap_or("no unit");
            let path = program.paths.first().map_or("", String::as_str);
            let (pid, name) = (program.pid, &program.name);
            let _ = writeln!(text, "  {name} (process {pid}, {unit}): {path}");
        }
        if programs.len() > LISTED {
            let _ = writeln!(text, "  and {} more", programs.len() - LISTED);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_not_ended() {
        for (unit, may) in [
            ("ssh.service", true),
            ("dbus.service", false),
            ("user@0.service", false),
            ("session-1.scope", false),
        ] {
            assert_eq!(may_restart(unit), may, "{unit}");
        }
    }
}
