//! The health of the running system: systemd's state and failed units, and the site's checks.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use wire::hello::{FAILED_MAX, Health, line};

use crate::commands::programs;
use crate::systemd;

/// Longest run time of one check. A check that takes longer is killed and counts as failed.
const CHECK_MAX: Duration = Duration::from_secs(60);

/// Queries systemd and runs the checks.
pub(super) fn look(checks: &Path) -> Health {
    let mut health = Health {
        checks: failed_checks(checks),
        ..Health::default()
    };
    if systemd::runs() {
        health.state = state();
        let listed = said(&[
            "list-units",
            "--failed",
            "--plain",
            "--no-legend",
            "--no-pager",
        ]);
        let names = listed
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        health.units = names.take(FAILED_MAX).map(line).collect();
    }
    health
}

/// The output of `systemctl is-system-running`.
pub(super) fn state() -> String {
    line(said(&["is-system-running"]).trim())
}

fn said(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output();
    let bytes = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs the programs in `directory` in order; returns the names of those that fail.
fn failed_checks(directory: &Path) -> Vec<String> {
    let programs = programs::listed(directory);
    let failed = programs.iter().filter(|program| !passes(program));
    let names = failed.filter_map(|program| program.file_name());
    names
        .take(FAILED_MAX)
        .map(|name| line(&name.to_string_lossy()))
        .collect()
}

/// True if a check succeeds in time.
fn passes(program: &Path) -> bool {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    programs::succeeds(&mut command, CHECK_MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// docs/FLEET.md F4.3: a check is a program; it fails by its exit code or by a signal.
    #[test]
    fn checks_are_programs_that_fail() {
        let place = tempfile::tempdir().unwrap();
        for (name, text, mode) in [
            ("20-printer", "#!/bin/sh\nexit 1\n", 0o755),
            ("10-disk", "#!/bin/sh\nexit 0\n", 0o755),
            ("30-notes", "no program\n", 0o644),
            ("05-signal", "#!/bin/sh\nkill -9 $$\n", 0o755),
        ] {
            let path = place.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(failed_checks(place.path()), ["05-signal", "20-printer"]);
        assert!(failed_checks(Path::new("/nonexistent")).is_empty());
    }
}
