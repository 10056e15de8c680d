//! Boot reports: how long one boot of a revision took and what it cost.
//!
//! `layerfs bench-boot` makes one, the mount sends it, `bakery log` shows the median of many. Anybody on the
//! network may have sent it: it is read by people and by nothing that decides, and every field is bounded.
//!
//! One JSON object (`docs/HTTP.md`). Keys that a reader does not know are left out of what it keeps.

use serde::{Deserialize, Serialize};

use crate::manifest::RevisionName;

/// Largest report, bytes. One has about 700.
pub const REPORT_LEN_MAX: usize = 4096;
/// Longest text in one, bytes: a unit of systemd has at most 255, those that end a boot under 64.
const TEXT_LEN_MAX: usize = 128;
/// Longest time, milliseconds: a year. Also a machine that has been up for long tells of its boot.
pub const BOOT_MS_MAX: u64 = 366 * 24 * 3600 * 1000;
/// Largest count: what JSON's numbers hold exactly everywhere.
const COUNT_MAX: u64 = (1 << 53) - 1;
/// The only form there is.
const FORMAT: u32 = 1;

/// Who says when the boot was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// systemd: when it saw the unit active.
    Systemd,
    /// Nobody: the time since the kernel's start when the report was made.
    Uptime,
}

/// When things happened, milliseconds since the kernel's start (`CLOCK_MONOTONIC`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Who says so.
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

/// What the mount had done by then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Body bytes received.
    pub bytes: u64,
    /// Requests sent.
    pub requests: u64,
    /// Exchanges that were tried again.
    pub retries: u64,
    /// Chunks refused for a wrong digest.
    pub corrupt: u64,
    /// Chunks fetched on demand.
    pub demanded: u64,
    /// Chunks fetched ahead.
    pub prefetched: u64,
    /// Chunks that came with the boot pack.
    pub pack_chunks: u64,
    /// Chunks of the pack made from the layers.
    pub rebuilt: u64,
    /// Chunks found in a cache.
    pub cache_hits: u64,
    /// Chunks read from the backup.
    pub backup_hits: u64,
    /// Seconds in which somebody waited for a server.
    pub waited_s: u64,
}

/// One boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// 1.
    pub format: u32,
    /// `SYSTEM/PROFILE@REVISION`.
    pub revision: String,
    /// When.
    pub times: Times,
    /// How much.
    pub counts: Counts,
    /// Whether it was started from local storage because no server answered.
    pub offline: bool,
    /// What became of the boot pack.
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

/// Why bytes are not a report.
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
    /// A report of the only form there is; the caller fills in the rest.
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

    /// The report as it is sent and stored.
    ///
    /// # Errors
    /// When a field is out of its bounds.
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
            .map_err(|_| ReportError(String::from("its revision is none")))?;
        check(name.revision.is_some(), "its revision has no number")?;
        Ok(name)
    }

    fn validate(&self) -> Result<(), ReportError> {
        check(
            self.format == FORMAT,
            "of a format this version does not know",
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
        let optional = [
            times.initrd_ms,
            times.mounted_ms,
            times.userspace_ms,
            times.finished_ms,
        ];
        let given = optional.into_iter().flatten();
        for time in given.chain([times.target_ms, times.counted_ms]) {
            check(time <= BOOT_MS_MAX, "a time is longer than a year")?;
        }
        check(times.target_ms > 0, "a boot that took no time")?;
        let counts = &self.counts;
        for count in [
            counts.bytes,
            counts.requests,
            counts.retries,
            counts.corrupt,
            counts.demanded,
            counts.prefetched,
            counts.pack_chunks,
            counts.rebuilt,
            counts.cache_hits,
            counts.backup_hits,
            counts.waited_s,
            self.memory_kib,
            self.daemon_kib,
        ] {
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
    fn hostile_reports_are_refused() {
        let good = serde_json::to_value(report()).unwrap();
        let table: [(&str, serde_json::Value); 10] = [
            ("/format", 2.into()),
            ("/revision", "../../etc@1".into()),
            ("/revision", "kiosk/main".into()),
            ("/times/target_ms", 0.into()),
            ("/times/target_ms", (-1).into()),
            ("/times/target_ms", (BOOT_MS_MAX + 1).into()),
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
