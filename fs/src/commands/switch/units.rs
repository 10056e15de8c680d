//! What systemd learns of a switch: its own files, and the services that use old ones.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::commands::old_files::{OldFiles, USER_MANAGER};
use crate::systemd;

/// Services that are not restarted: sessions and the system bus end with them.
const NOT_RESTARTED: [&str; 8] = [
    "dbus",
    "dbus-broker",
    "display-manager",
    "gdm",
    "lightdm",
    "sddm",
    "systemd-logind",
    USER_MANAGER,
];

/// What became of the services.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// Those that were restarted.
    pub(super) done: Vec<String>,
    /// Those that were not, and why.
    pub(super) failed: Vec<FailedRestart>,
}

/// A service that could not be restarted.
#[derive(Debug, serde::Serialize)]
pub(super) struct FailedRestart {
    pub(super) unit: String,
    pub(super) error: String,
}

/// Makes systemd read the units of the new revision, as packages do after an update.
pub(super) fn reload() {
    if systemd::runs()
        && let Err(error) = systemctl(&["daemon-reload"])
    {
        eprintln!("layerfs: systemd keeps its units of before: {error}");
    }
}

/// Restarts the services of these programs.
pub(super) fn restart(programs: &[OldFiles]) -> Restarts {
    let units = programs
        .iter()
        .filter_map(|program| program.unit.as_deref());
    let units: BTreeSet<&str> = units.filter(|unit| may_restart(unit)).collect();
    let mut restarts = Restarts::default();
    for unit in units {
        match systemctl(&["try-restart", "--", unit]) {
            Ok(()) => restarts.done.push(unit.to_owned()),
            Err(error) => restarts.failed.push(FailedRestart {
                unit: unit.to_owned(),
                error,
            }),
        }
    }
    restarts
}

fn systemctl(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("systemctl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("systemctl: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default().trim();
    match said.is_empty() {
        true => Err(format!("systemctl: {}", output.status)),
        false => Err(said.to_owned()),
    }
}

fn may_restart(unit: &str) -> bool {
    let Some(name) = unit.strip_suffix(".service") else {
        return false;
    };
    // The caller itself would end.
    let is_own = name == "layerfs-follow";
    let is = |kept: &str| match kept.ends_with('@') {
        true => name.starts_with(kept),
        false => name == kept,
    };
    !is_own && !NOT_RESTARTED.iter().any(|kept| is(kept))
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
            ("user@1000.service", false),
            ("session-1.scope", false),
            ("layerfs-follow.service", false),
        ] {
            assert_eq!(may_restart(unit), may, "{unit}");
        }
    }
}
