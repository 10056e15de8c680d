//! Restarts the services that use old files.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::commands::old_files::OldFiles;

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

/// Restarts the services of these programs; returns those that were restarted.
pub(super) fn restart(programs: &[OldFiles]) -> anyhow::Result<Vec<String>> {
    let units = programs
        .iter()
        .filter_map(|program| program.unit.as_deref());
    let units: BTreeSet<&str> = units.filter(|unit| may_restart(unit)).collect();
    let mut restarted = Vec::new();
    for unit in units {
        let status = Command::new("systemctl")
            .args(["try-restart", "--", unit])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("systemctl")?;
        match status.success() {
            true => restarted.push(unit.to_owned()),
            false => eprintln!("layerfs: {unit} cannot be restarted: {status}"),
        }
    }
    Ok(restarted)
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
            ("session-1.scope", false),
            ("layerfs-follow.service", false),
        ] {
            assert_eq!(may_restart(unit), may, "{unit}");
        }
    }
}
