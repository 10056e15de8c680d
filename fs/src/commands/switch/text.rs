//! The result of a switch in words.

use std::fmt::Write as _;

use crate::commands::old_files::OldFiles;
use crate::switch::{SwitchOutcome, SwitchReport};

/// Conflicts and programs that the text lists.
const LISTED: usize = 20;

/// The result, with the programs that use old files.
pub(super) fn human(report: &SwitchReport, programs: &[OldFiles]) -> String {
    let mut text = String::new();
    let to = report.to.as_deref().unwrap_or_default();
    let (from, changes) = (&report.from, report.changes);
    let first = match report.outcome {
        SwitchOutcome::Same => format!("{to} is mounted already"),
        SwitchOutcome::Planned | SwitchOutcome::Refused => {
            format!("{from} to {to}: {}", differences(report, programs))
        }
        _ => format!(
            "{from} to {to}: {changes} names changed in {} ms",
            report.took_ms
        ),
    };
    let _ = writeln!(text, "{first}");
    text.push_str(&conflicts(report));
    if report.outcome == SwitchOutcome::Done && !report.boot_differences.is_empty() {
        let differences = report.boot_differences.join(", ");
        let _ = writeln!(text, "other with the next start: {differences}");
    }
    if !programs.is_empty() {
        let _ = writeln!(text, "programs with old files: {}", programs.len());
        for program in programs.iter().take(LISTED) {
            let unit = program.unit.as_deref().unwrap_or("no unit");
            let user_unit = program.user_unit.iter();
            let unit = user_unit.fold(unit.to_owned(), |unit, below| format!("{unit}, {below}"));
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

/// One line about a newer revision.
pub(in crate::commands) fn offer(report: &SwitchReport, programs: &[OldFiles]) -> String {
    let to = report.to.as_deref().unwrap_or_default();
    format!("{to} is out; {}", differences(report, programs))
}

/// What a switch would change, in a part of a line.
fn differences(report: &SwitchReport, programs: &[OldFiles]) -> String {
    let mut text = format!("names that differ: {}", report.changes);
    if report.conflict_count > 0 {
        let _ = write!(text, ", conflicts: {}", report.conflict_count);
    }
    if !programs.is_empty() {
        let count = programs.len();
        let _ = write!(text, ", programs that would use old files: {count}");
    }
    if !report.boot_differences.is_empty() {
        let differences = report.boot_differences.join(", ");
        let _ = write!(text, "; other with the next start: {differences}");
    }
    text
}

/// The conflicts, and their consequence.
pub(in crate::commands) fn conflicts(report: &SwitchReport) -> String {
    let mut text = String::new();
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
    if report.outcome != SwitchOutcome::Refused {
        return text;
    }
    let forbidding = report.conflicts.iter().filter(|conflict| conflict.forbids);
    let forbidding: Vec<&str> = forbidding.map(|conflict| conflict.path.as_str()).collect();
    let _ = match forbidding.is_empty() {
        true => writeln!(text, "refused: --force switches all the same"),
        false => writeln!(
            text,
            "impossible, also with --force: copy these, remove them, and try again: {}",
            forbidding.join(", ")
        ),
    };
    text
}
