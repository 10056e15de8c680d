//! Boot reports: the duration and costs of one boot of a revision.
//!
//! `layerfs bench-boot` makes one, the mount sends it, `bakery log` shows the median of many.
//! Anybody on the network can send one: only users read it, no decision depends on it, and every
//! field is bounded.
//!
//! One JSON object (`docs/HTTP.md`). A reader drops unknown keys.

use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::manifest::RevisionName;

/// Largest report, bytes. One has about 700.
pub const REPORT_LEN_MAX: usize = 4096;
/// Longest text in one, bytes: a unit of systemd has at most 255, those that end a boot under 64.
const TEXT_LEN_MAX: usize = 128;
/// Maximum duration of a boot, milliseconds: a day.
pub(crate) const BOOT_MS_MAX: u64 = 24 * 3600 * 1000;
/// Latest time, milliseconds since the kernel's start: a year. A machine may report its boot long
/// after it.
pub(crate) const MOMENT_MS_MAX: u64 = 366 * BOOT_MS_MAX;
/// Maximum count: the largest number that JSON holds exactly everywhere.
const COUNT_MAX: u64 = (1 << 53) - 1;
/// The only form there is.
const FORMAT: u32 = 1;

/// The source of the time at which the boot was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// systemd: when it saw the unit active.
    Systemd,
    /// Unknown: the time since the kernel's start when the report was made.
    Uptime,
}

/// When things happened, milliseconds since the kernel's start (`CLOCK_MONOTONIC`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The source of these times.
    pub clock: Clock,
    /// The unit that was waited for; empty without systemd.
    pub unit: String,
    /// The initramfs' own systemd began, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd_ms: Option<u64>,
    /// The root was mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounted_ms: Option<u64>,
    /// The system's own init began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userspace_ms: Option<u64>,
    /// The unit was reached: the boot time.
    pub target_ms: u64,
    /// Everything was started, if it was by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// The counters were read.
    pub counted_ms: u64,
}

/// The report of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// Version of the report; 1.
    pub format: u32,
    /// `SYSTEM/PROFILE@REVISION`.
    pub revision: String,
    /// Times of the boot.
    pub times: Times,
    /// Counters of the mount.
    pub counts: Counts,
    /// True if the mount started from local storage because no server answered.
    pub offline: bool,
    /// The state of the boot pack.
    pub pack: String,
    /// Memory of the machine, KiB.
    pub memory_kib: u64,
    /// Memory of the mount's daemon, KiB.
    pub daemon_kib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The version of layerfs.
    pub version: String,
}

/// The reason why bytes are not a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportError(String);

impl std::fmt::Display for ReportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a boot report: {}", self.0)
    }
}

impl std::error::Error for ReportError {}

fn check(holds: bool, what: &str) -> Result<(), ReportError> {
    if holds {
        Ok(())
    } else {
        Err(ReportError(what.to_owned()))
    }
}

impl BootReport {
    /// A report of the current format; the caller fills in the rest.
    pub fn new(revision: &str, times: Times) -> BootReport {
        BootReport {
            format: FORMAT,
            revision: revision.to_owned(),
            times,
            counts: Counts::default(),
            offline: false,
            pack: String::new(),
            memory_kib: 0,
            daemon_kib: 0,
            kernel: String::new(),
            version: String::new(),
        }
    }

    /// Encodes the report for sending and storing.
    ///
    /// # Errors
    /// A field is out of its bounds.
    pub fn encode(&self) -> Result<Vec<u8>, ReportError> {
        self.validate()?;
        let bytes = serde_json::to_vec(self).map_err(|error| ReportError(error.to_string()))?;
        check(bytes.len() <= REPORT_LEN_MAX, "too long")?;
        Ok(bytes)
    }

    /// Reads a report and checks every bound.
    ///
    /// # Errors
    /// When the bytes are not exactly one report, or a field is out of its bounds.
    pub fn decode(bytes: &[u8]) -> Result<BootReport, ReportError> {
        check(bytes.len() <= REPORT_LEN_MAX, "too long")?;
        let report: BootReport =
            serde_json::from_slice(bytes).map_err(|error| ReportError(error.to_string()))?;
        report.validate()?;
        Ok(report)
    }

    /// The revision, which was checked.
    ///
    /// # Errors
    /// When it names none.
    pub fn revision_name(&self) -> Result<RevisionName, ReportError> {
        let name: RevisionName = self
            .revision
            .parse()
            .map_err(|_| ReportError(String::from("its revision is not a revision")))?;
        check(name.revision.is_some(), "its revision has no number")?;
        Ok(name)
    }

    fn validate(&self) -> Result<(), ReportError> {
        check(
            self.format == FORMAT,
            "its format is unknown to this version",
        )?;
        self.revision_name()?;
        let times = &self.times;
        for text in [&times.unit, &self.pack, &self.kernel, &self.version] {
            check(text.len() <= TEXT_LEN_MAX, "a text is too long")?;
            check(
                !text.chars().any(char::is_control),
                "a text is not one line",
            )?;
        }
        // Without systemd the end of the boot is unknown: it is the time of the report.
        let (target, now) = match times.clock {
            Clock::Systemd => (Some(times.target_ms), None),
            Clock::Uptime => (None, Some(times.target_ms)),
        };
        let stages = [times.initrd_ms, times.userspace_ms, times.finished_ms];
        for time in stages.into_iter().chain([target]).flatten() {
            check(time <= BOOT_MS_MAX, "a time is longer than a day")?;
        }
        let moments = [Some(times.counted_ms), times.mounted_ms, now];
        for moment in moments.into_iter().flatten() {
            check(
                moment <= MOMENT_MS_MAX,
                "a time is more than a year after the start",
            )?;
        }
        check(times.target_ms > 0, "the duration of the boot is zero")?;
        let memory = [self.memory_kib, self.daemon_kib];
        for count in self.counts.values().chain(memory) {
            check(count <= COUNT_MAX, "a count is too large")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> BootReport {
        BootReport::new(
            "kiosk/main@7",
            Times {
                clock: Clock::Systemd,
                unit: "multi-user.target".into(),
                initrd_ms: None,
                mounted_ms: Some(1_900),
                userspace_ms: Some(2_500),
                target_ms: 9_300,
                finished_ms: None,
                counted_ms: 9_400,
            },
        )
    }

    #[test]
    fn a_report_survives_and_unknown_keys_are_dropped() {
        let whole = report().encode().unwrap();
        assert_eq!(BootReport::decode(&whole).unwrap(), report());
        let mut more: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        more["later"] = "x".into();
        let read = BootReport::decode(more.to_string().as_bytes()).unwrap();
        assert_eq!(read, report());
    }

    #[test]
    fn a_boot_is_told_of_also_days_later() {
        let mut late = report();
        late.times.counted_ms = 3 * BOOT_MS_MAX;
        assert!(late.encode().is_ok());
        late.times.target_ms = 3 * BOOT_MS_MAX;
        assert!(late.encode().is_err(), "that is no boot");
        late.times.clock = Clock::Uptime;
        assert!(late.encode().is_ok());
        late.times.target_ms = MOMENT_MS_MAX + 1;
        assert!(late.encode().is_err());
    }

    #[test]
    fn hostile_reports_are_refused() {
        let good = serde_json::to_value(report()).unwrap();
        let table: [(&str, serde_json::Value); 13] = [
            ("/format", 2.into()),
            ("/revision", "../../etc@1".into()),
            ("/revision", "kiosk/main".into()),
            ("/times/target_ms", 0.into()),
            ("/times/target_ms", (-1).into()),
            ("/times/target_ms", (BOOT_MS_MAX + 1).into()),
            ("/times/userspace_ms", (BOOT_MS_MAX + 1).into()),
            ("/times/counted_ms", (MOMENT_MS_MAX + 1).into()),
            ("/times/mounted_ms", (MOMENT_MS_MAX + 1).into()),
            ("/times/unit", "a\nb".into()),
            ("/pack", "x".repeat(TEXT_LEN_MAX + 1).into()),
            ("/counts/bytes", u64::MAX.into()),
            ("/times/clock", "sundial".into()),
        ];
        for (field, value) in table {
            let mut bad = good.clone();
            *bad.pointer_mut(field).unwrap() = value;
            let said = BootReport::decode(bad.to_string().as_bytes());
            assert!(said.is_err(), "{field}: {bad}");
        }
        let mut long = good.to_string().into_bytes();
        long.resize(REPORT_LEN_MAX + 1, b' ');
        assert!(BootReport::decode(&long).is_err());
        let mut two = good.to_string();
        two.push_str("{}");
        assert!(BootReport::decode(two.as_bytes()).is_err());
        assert!(BootReport::decode(b"").is_err());
        assert!(BootReport::decode(&[0xff; 64]).is_err());
    }
}
