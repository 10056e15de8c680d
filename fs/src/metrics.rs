//! Counters of a mount: requests by kind, with their latencies. Lock-free.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The kinds of requests, in the order of [`Requests`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the FUSE operation of its name")]
pub enum Operation {
    Lookup,
    Getattr,
    Setattr,
    Readlink,
    Make,
    Unlink,
    Rmdir,
    Rename,
    Link,
    Open,
    Create,
    Release,
    Read,
    Write,
    Fsync,
    Readdir,
    Statfs,
    Getxattr,
    Setxattr,
    Seek,
    Fallocate,
    CopyRange,
    Forget,
    Ioctl,
}

impl Operation {
    /// The name in the status and in the log.
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).copied().unwrap_or("request")
    }
}

const NAMES: [&str; 24] = [
    "lookup",
    "getattr",
    "setattr",
    "readlink",
    "make",
    "unlink",
    "rmdir",
    "rename",
    "link",
    "open",
    "create",
    "release",
    "read",
    "write",
    "fsync",
    "readdir",
    "statfs",
    "getxattr",
    "setxattr",
    "seek",
    "fallocate",
    "copy_range",
    "forget",
    "ioctl",
];

#[derive(Debug, Default)]
struct Counter {
    count: AtomicU64,
    total_ns: AtomicU64,
    longest_ns: AtomicU64,
}

/// Counters of all kinds of requests.
#[derive(Debug, Default)]
pub struct Requests {
    counters: [Counter; NAMES.len()],
    /// Requests that caused a panic in this program; they are answered with EIO.
    pub panics: AtomicU64,
    /// Requests that wait for a server now.
    pub waiting: AtomicU64,
}

/// One kind of request, as reported.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Name of the operation.
    pub name: String,
    /// Number of requests.
    pub count: u64,
    /// Mean time in the daemon, microseconds.
    pub mean_us: f64,
    /// Longest time in the daemon, microseconds.
    pub longest_us: f64,
}

impl Requests {
    /// Count one request that took `time`.
    pub fn add(&self, operation: Operation, time: Duration) {
        let Some(counter) = self.counters.get(operation as usize) else {
            return;
        };
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        counter.count.fetch_add(1, Ordering::Relaxed);
        counter.total_ns.fetch_add(ns, Ordering::Relaxed);
        counter.longest_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// True if an object was changed through the mount, or may have been.
    pub fn changed(&self) -> bool {
        let changes = [
            Operation::Setattr,
            Operation::Make,
            Operation::Unlink,
            Operation::Rmdir,
            Operation::Rename,
            Operation::Link,
            Operation::Create,
            Operation::Write,
            Operation::Setxattr,
            Operation::Fallocate,
            Operation::CopyRange,
        ];
        let counters = changes
            .iter()
            .filter_map(|kind| self.counters.get(*kind as usize));
        counters
            .map(|counter| counter.count.load(Ordering::Relaxed))
            .any(|count| count > 0)
    }

    /// Number of requests in all.
    pub fn count(&self) -> u64 {
        let counts = self
            .counters
            .iter()
            .map(|counter| counter.count.load(Ordering::Relaxed));
        counts.sum()
    }

    /// The kinds that occurred.
    pub fn report(&self) -> Vec<Report> {
        let rows = NAMES
            .iter()
            .zip(&self.counters)
            .filter_map(|(name, counter)| {
                let count = counter.count.load(Ordering::Relaxed);
                let us = |ns: &AtomicU64| ns.load(Ordering::Relaxed) as f64 / 1000.0;
                (count > 0).then(|| Report {
                    name: (*name).to_owned(),
                    count,
                    mean_us: us(&counter.total_ns) / count as f64,
                    longest_us: us(&counter.longest_ns),
                })
            });
        rows.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_name() {
        assert_eq!(NAMES[Operation::CopyRange as usize], "copy_range");
        assert_eq!(NAMES[Operation::Read as usize], "read");
        let requests = Requests::default();
        requests.add(Operation::Forget, Duration::ZERO);
        assert!(!requests.changed());
        requests.add(Operation::Write, Duration::from_micros(3));
        assert!(requests.changed());
        requests.add(Operation::Write, Duration::from_micros(5));
        assert_eq!(requests.count(), 3);
        let report = requests.report();
        assert_eq!(
            (report.len(), report[0].name.as_str(), report[0].count),
            (2, "write", 2)
        );
        assert!((report[0].mean_us - 4.0).abs() < 0.01);
        assert!((report[0].longest_us - 5.0).abs() < 0.01);
    }
}
