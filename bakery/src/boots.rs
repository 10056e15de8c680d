//! The boot reports in the spool: boot times of each revision.
//!
//! Anybody on the network can send them; users read them, and no decision depends on them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use wire::boot_report::{BootReport, Clock, REPORT_LEN_MAX};
use wire::manifest::ProfileName;

use crate::limits::BOOT_FILES_MAX;

/// Directory of the reports in the spool.
pub(crate) const DIRECTORY: &str = "boots";

/// The boots of one revision that ended in the same way: by the same unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootTimes {
    /// Number of boots.
    pub count: usize,
    /// Median of the times from the kernel's start to the unit.
    pub median_ms: u64,
    /// The time that a tenth of the boots did not exceed.
    pub p10_ms: u64,
    /// And nine tenths.
    pub p90_ms: u64,
    /// Median of the bytes received.
    pub median_bytes: u64,
    /// The unit; empty without systemd.
    pub unit: String,
    /// Number of further reports, of boots that ended with another unit.
    pub others: usize,
}

/// The boots of one history.
#[derive(Debug, Clone)]
pub struct Boots {
    directory: PathBuf,
}

impl Boots {
    /// Reads the reports of `name` in `spool`.
    pub fn of(spool: &Path, name: &ProfileName) -> Boots {
        let directory = spool.join(DIRECTORY).join(&name.system).join(&name.profile);
        Boots { directory }
    }

    /// The times of one revision; `None` without reports. Invalid reports are skipped.
    ///
    /// # Errors
    /// The directory exists and cannot be read.
    pub fn times(&self, revision: u64) -> std::io::Result<Option<BootTimes>> {
        let entries = match std::fs::read_dir(self.directory.join(revision.to_string())) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut reports = Vec::new();
        for entry in entries.take(BOOT_FILES_MAX) {
            let path = entry?.path();
            match read(&path) {
                Ok(report) => reports.push(report),
                Err(error) => tracing::warn!("{}: {error}", path.display()),
            }
        }
        Ok(summarize(&reports))
    }
}

fn read(path: &Path) -> std::io::Result<BootReport> {
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(REPORT_LEN_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    BootReport::decode(&bytes).map_err(std::io::Error::other)
}

/// Times with different ends cannot be compared: those of the most frequent end count.
fn summarize(reports: &[BootReport]) -> Option<BootTimes> {
    let mut ends: BTreeMap<(Clock, &str), Vec<&BootReport>> = BTreeMap::new();
    for report in reports {
        let end = (report.times.clock, report.times.unit.as_str());
        ends.entry(end).or_default().push(report);
    }
    let ((_, unit), boots) = ends
        .into_iter()
        .rev()
        .max_by_key(|(_, boots)| boots.len())?;
    let times = sorted(&boots, |report| report.times.target_ms);
    let bytes = sorted(&boots, |report| report.counts.bytes);
    Some(BootTimes {
        count: boots.len(),
        median_ms: median(&times)?,
        p10_ms: rank(&times, 10)?,
        p90_ms: rank(&times, 90)?,
        median_bytes: median(&bytes)?,
        unit: unit.to_owned(),
        others: reports.len() - boots.len(),
    })
}

fn sorted(boots: &[&BootReport], of: impl Fn(&BootReport) -> u64) -> Vec<u64> {
    let mut values: Vec<u64> = boots.iter().map(|report| of(report)).collect();
    values.sort_unstable();
    values
}

fn median(sorted: &[u64]) -> Option<u64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(lower.midpoint(upper))
}

/// The nearest rank.
fn rank(sorted: &[u64], percent: usize) -> Option<u64> {
    let place = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(place - 1).copied()
}

impl std::fmt::Display for BootTimes {
    /// `9.3 s (8.9–12.0 s, 23 boots)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |ms: u64| format!("{}.{}", ms / 1000, ms % 1000 / 100);
        write!(f, "{} s", seconds(self.median_ms))?;
        if self.count == 1 {
            return write!(f, " (1 boot)");
        }
        let (from, to) = (seconds(self.p10_ms), seconds(self.p90_ms));
        write!(f, " ({from}–{to} s, {} boots)", self.count)
    }
}

#[cfg(test)]
mod tests {
    use wire::boot_report::Times;

    use super::*;

    fn report(unit: &str, target_ms: u64) -> BootReport {
        let times = Times {
            clock: Clock::Systemd,
            unit: unit.into(),
            initrd_ms: None,
            mounted_ms: None,
            userspace_ms: None,
            target_ms,
            finished_ms: None,
            counted_ms: target_ms,
        };
        BootReport::new("kiosk/main@3", times)
    }

    #[test]
    fn the_median_is_of_boots_that_ended_alike() {
        assert_eq!(summarize(&[]), None);
        let mut reports: Vec<BootReport> = (1..=10)
            .map(|n| report("graphical.target", n * 1000))
            .collect();
        reports.push(report("multi-user.target", 1));
        let times = summarize(&reports).unwrap();
        assert_eq!((times.count, times.others), (10, 1));
        assert_eq!(times.unit, "graphical.target");
        assert_eq!(
            (times.median_ms, times.p10_ms, times.p90_ms),
            (5_500, 1_000, 9_000)
        );
        assert_eq!(times.to_string(), "5.5 s (1.0–9.0 s, 10 boots)");
        let one = summarize(&[report("a", 9_349)]).unwrap();
        assert_eq!((one.median_ms, one.p90_ms), (9_349, 9_349));
        assert_eq!(one.to_string(), "9.3 s (1 boot)");
    }

    #[test]
    fn what_is_no_report_is_passed_over() {
        let spool = tempfile::tempdir().unwrap();
        let boots = Boots::of(spool.path(), &"kiosk".parse().unwrap());
        assert_eq!(boots.times(3).unwrap(), None);
        let directory = spool.path().join("boots/kiosk/main/3");
        std::fs::create_dir_all(&directory).unwrap();
        for (name, bytes) in [
            ("good", report("a", 5_000).encode().unwrap()),
            ("empty", Vec::new()),
            ("long", vec![b'{'; 1 << 20]),
        ] {
            std::fs::write(directory.join(name), bytes).unwrap();
        }
        assert_eq!(boots.times(3).unwrap().unwrap().median_ms, 5_000);
        assert_eq!(boots.times(4).unwrap(), None);
    }
}
