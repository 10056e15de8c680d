//! The server's counters, in Prometheus' text form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wire::manifest::ProfileName;
use wire::paths::{Class, Request, route};

use super::limits;

/// The purpose of a request; a label of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Layer,
    Index,
    Pack,
    Manifest,
    Boot,
    Record,
    Bundle,
    Newest,
    Batch,
    Trace,
    BootReport,
    Job,
    Netboot,
    Other,
}

const ROUTES: [(Route, &str); 14] = [
    (Route::Layer, "layer"),
    (Route::Index, "index"),
    (Route::Pack, "pack"),
    (Route::Manifest, "manifest"),
    (Route::Boot, "boot"),
    (Route::Record, "record"),
    (Route::Bundle, "bundle"),
    (Route::Newest, "newest"),
    (Route::Batch, "batch"),
    (Route::Trace, "trace"),
    (Route::BootReport, "boot_report"),
    (Route::Job, "job"),
    (Route::Netboot, "netboot"),
    (Route::Other, "other"),
];

/// Upper bounds of the duration histogram, microseconds and as Prometheus writes them.
const BOUNDS: [(u64, &str); 8] = [
    (500, "0.0005"),
    (2_000, "0.002"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (250_000, "0.25"),
    (1_000_000, "1"),
    (5_000_000, "5"),
    (30_000_000, "30"),
];

impl Route {
    /// The label of a request: from the route that the router `matched`, else from the class of the
    /// object at `path` (with its leading slash).
    pub(crate) fn of(matched: Option<&str>, path: &str) -> Self {
        let object = || match Request::parse(path) {
            Some(Request::Object(object)) => Self::of_class(object.class()),
            _ => Self::Other,
        };
        matched.map_or_else(object, |matched| match matched {
            route::BUNDLE => Self::Bundle,
            route::NEWEST => Self::Newest,
            route::BATCH => Self::Batch,
            route::TRACES => Self::Trace,
            route::BOOTS => Self::BootReport,
            route::JOB => Self::Job,
            route::IPXE | route::IPXE_SYSTEM | route::IPXE_PROFILE => Self::Netboot,
            route::GRUB | route::PXELINUX => Self::Netboot,
            _ => Self::Other,
        })
    }

    fn of_class(class: Class) -> Self {
        match class {
            Class::Layer => Self::Layer,
            Class::Index | Class::Delta => Self::Index,
            Class::Pack | Class::Update => Self::Pack,
            Class::Manifest => Self::Manifest,
            Class::Boot => Self::Boot,
            _ => Self::Record,
        }
    }
}

#[derive(Debug, Default)]
struct PerRoute {
    /// Answers by first digit of the status.
    answers: [AtomicU64; 6],
    bytes: AtomicU64,
}

/// Metrics of the newest revision of a profile that reported since the server started.
#[derive(Debug, Default)]
struct BootMetrics {
    revision: u64,
    count: u64,
    total_ms: u64,
}

/// Every counter of one server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    routes: [PerRoute; 13],
    durations: [AtomicU64; 9],
    duration_micros: AtomicU64,
    /// Number of accepted connections.
    pub connections: AtomicU64,
    /// Connections open now.
    pub connections_open: AtomicU64,
    /// Times the listener reached its limit of connections.
    pub connections_waited: AtomicU64,
    /// Connections that ended in an error.
    pub connections_failed: AtomicU64,
    /// Traces stored and refused.
    pub traces_stored: AtomicU64,
    /// Number of refused traces.
    pub traces_refused: AtomicU64,
    /// Boot reports refused.
    pub reports_refused: AtomicU64,
    boots: Mutex<BTreeMap<ProfileName, BootMetrics>>,
    /// Failed reads of the store; missing objects do not count.
    pub store_errors: AtomicU64,
}

impl Metrics {
    /// Counts one answer. `bytes` is the body's length when it is known.
    pub(crate) fn answered(&self, route: Route, status: u16, bytes: u64, took: Duration) {
        let class = usize::from(status / 100);
        if let Some(counters) = self.routes.get(route as usize) {
            if let Some(count) = counters.answers.get(class) {
                count.fetch_add(1, Relaxed);
            }
            counters.bytes.fetch_add(bytes, Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|(bound, _)| micros <= *bound);
        if let Some(count) = self.durations.get(bucket.unwrap_or(BOUNDS.len())) {
            count.fetch_add(1, Relaxed);
        }
        self.duration_micros.fetch_add(micros, Relaxed);
    }

    /// Counts one boot report.
    pub(crate) fn booted(&self, profile: ProfileName, revision: u64, target_ms: u64) {
        let mut boots = self.boots.lock().unwrap_or_else(PoisonError::into_inner);
        if boots.len() >= limits::BOOT_ROWS_MAX && !boots.contains_key(&profile) {
            return;
        }
        let row = boots.entry(profile).or_default();
        if revision > row.revision {
            *row = BootMetrics {
                revision,
                ..BootMetrics::default()
            };
        }
        if revision == row.revision {
            row.count += 1;
            row.total_ms = row.total_ms.saturating_add(target_ms);
        }
    }

    fn render_boots(&self, page: &mut String) {
        let boots = self.boots.lock().unwrap_or_else(PoisonError::into_inner);
        if boots.is_empty() {
            return;
        }
        let help = "Kernel to target, of the newest revision that reported";
        head(page, "boot_seconds", "summary", help);
        for (name, row) in boots.iter() {
            let (system, profile) = (&name.system, &name.profile);
            let labels = format!(
                "system=\"{system}\",profile=\"{profile}\",revision=\"{}\"",
                row.revision
            );
            let (whole, part) = (row.total_ms / 1000, row.total_ms % 1000);
            let _ = writeln!(
                page,
                "bakery_boot_seconds_sum{{{labels}}} {whole}.{part:03}"
            );
            let _ = writeln!(page, "bakery_boot_seconds_count{{{labels}}} {}", row.count);
        }
    }

    /// The page Prometheus reads. `jobs` are counts by state.
    pub(crate) fn render(&self, jobs: &[(&str, u64)]) -> String {
        let mut page = String::with_capacity(4096);
        self.render_requests(&mut page);
        self.render_durations(&mut page);
        for (name, kind, help, value) in [
            (
                "connections_total",
                "counter",
                "Connections accepted",
                &self.connections,
            ),
            (
                "connections_open",
                "gauge",
                "Connections open now",
                &self.connections_open,
            ),
            (
                "connections_waited_total",
                "counter",
                "Times the listener reached its limit",
                &self.connections_waited,
            ),
            (
                "connections_failed_total",
                "counter",
                "Connections that ended in an error",
                &self.connections_failed,
            ),
            (
                "traces_stored_total",
                "counter",
                "Boot traces taken",
                &self.traces_stored,
            ),
            (
                "traces_refused_total",
                "counter",
                "Boot traces refused",
                &self.traces_refused,
            ),
            (
                "boot_reports_refused_total",
                "counter",
                "Boot reports refused",
                &self.reports_refused,
            ),
            (
                "store_errors_total",
                "counter",
                "Failed reads of the store",
                &self.store_errors,
            ),
        ] {
            head(&mut page, name, kind, help);
            let _ = writeln!(page, "bakery_{name} {}", value.load(Relaxed));
        }
        self.render_boots(&mut page);
        if !jobs.is_empty() {
            head(&mut page, "jobs", "gauge", "Jobs in the spool by state");
            for (state, count) in jobs {
                let _ = writeln!(page, "bakery_jobs{{state=\"{state}\"}} {count}");
            }
        }
        page
    }

    fn render_requests(&self, page: &mut String) {
        head(
            page,
            "requests_total",
            "counter",
            "Answers by route and status class",
        );
        for ((_, label), counters) in ROUTES.iter().zip(&self.routes) {
            for (class, count) in counters.answers.iter().enumerate() {
                let count = count.load(Relaxed);
                if count > 0 {
                    let _ = writeln!(
                        page,
                        "bakery_requests_total{{route=\"{label}\",status=\"{class}xx\"}} {count}"
                    );
                }
            }
        }
        head(
            page,
            "sent_bytes_total",
            "counter",
            "Bytes of answer bodies by route",
        );
        for ((_, label), counters) in ROUTES.iter().zip(&self.routes) {
            let bytes = counters.bytes.load(Relaxed);
            let _ = writeln!(page, "bakery_sent_bytes_total{{route=\"{label}\"}} {bytes}");
        }
    }

    fn render_durations(&self, page: &mut String) {
        let name = "request_seconds";
        head(
            page,
            name,
            "histogram",
            "Time from a request's head to its answer's head",
        );
        let mut total = 0;
        let bounds = BOUNDS.iter().map(|(_, label)| *label).chain(["+Inf"]);
        for (label, count) in bounds.zip(&self.durations) {
            total += count.load(Relaxed);
            let _ = writeln!(page, "bakery_{name}_bucket{{le=\"{label}\"}} {total}");
        }
        let micros = self.duration_micros.load(Relaxed);
        let _ = writeln!(
            page,
            "bakery_{name}_sum {}.{:06}",
            micros / 1_000_000,
            micros % 1_000_000
        );
        let _ = writeln!(page, "bakery_{name}_count {total}");
    }
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(
        page,
        "# HELP bakery_{name} {help}.\n# TYPE bakery_{name} {kind}"
    );
}

#[cfg(test)]
mod tests {
    use layerfmt::Digest;
    use wire::paths::ObjectPath;

    use super::*;

    #[test]
    fn every_route_has_its_row() {
        for (index, (route, _)) in ROUTES.iter().enumerate() {
            assert_eq!(*route as usize, index);
        }
    }

    #[test]
    fn counts_appear_on_the_page() {
        let metrics = Metrics::default();
        metrics.answered(
            Route::of(None, &ObjectPath::Layer(Digest::of(b"x")).url()),
            206,
            262_144,
            Duration::from_micros(700),
        );
        let bundle = Route::of(Some(route::BUNDLE), "/v1/bundle/a/b");
        metrics.answered(bundle, 404, 0, Duration::from_secs(60));
        for (revision, ms) in [(6, 40_000), (7, 9_300), (7, 10_705), (6, 50_000)] {
            metrics.booted("kiosk/lab".parse().unwrap(), revision, ms);
        }
        let page = metrics.render(&[("queued", 3)]);
        for line in [
            "bakery_requests_total{route=\"layer\",status=\"2xx\"} 1",
            "bakery_requests_total{route=\"bundle\",status=\"4xx\"} 1",
            "bakery_sent_bytes_total{route=\"layer\"} 262144",
            "bakery_request_seconds_bucket{le=\"0.0005\"} 0",
            "bakery_request_seconds_bucket{le=\"0.002\"} 1",
            "bakery_request_seconds_bucket{le=\"30\"} 1",
            "bakery_request_seconds_bucket{le=\"+Inf\"} 2",
            "bakery_request_seconds_sum 60.000700",
            "bakery_boot_seconds_sum{system=\"kiosk\",profile=\"lab\",revision=\"7\"} 20.005",
            "bakery_boot_seconds_count{system=\"kiosk\",profile=\"lab\",revision=\"7\"} 2",
            "bakery_jobs{state=\"queued\"} 3",
        ] {
            assert!(page.lines().any(|one| one == line), "{line}\n{page}");
        }
    }
}
