//! The metrics for Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wire::hello::Step;

use crate::store::Census;

/// The counters of the process.
#[derive(Debug, Default)]
pub struct Counters {
    hellos: [AtomicU64; Step::ALL.len()],
    refused: AtomicU64,
    limited: AtomicU64,
    failed: AtomicU64,
    unproved: AtomicU64,
}

impl Counters {
    /// Counts one stored hello.
    pub fn heard(&self, step: Step) {
        if let Some(count) = self.hellos.get(step as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts one malformed hello.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Counts one request over the rate limit of its address.
    pub fn limited(&self) {
        self.limited.fetch_add(1, Relaxed);
    }

    /// Counts one hello without the necessary proof.
    pub fn unproved(&self) {
        self.unproved.fetch_add(1, Relaxed);
    }

    /// Counts `count` hellos that the database did not store.
    pub fn failed(&self, count: usize) {
        self.failed.fetch_add(count as u64, Relaxed);
    }

    /// Renders the metrics.
    #[must_use]
    pub fn render(&self, census: &Census) -> String {
        let mut page = String::with_capacity(4096);
        head(
            &mut page,
            "hellos_total",
            "counter",
            "Hellos stored, by step",
        );
        for (step, count) in Step::ALL.iter().zip(&self.hellos) {
            let count = count.load(Relaxed);
            let _ = writeln!(page, "bakery_fleet_hellos_total{{step=\"{step}\"}} {count}");
        }
        let help = "Hellos refused, by reason";
        head(&mut page, "hellos_refused_total", "counter", help);
        for (why, count) in [
            ("malformed", &self.refused),
            ("rate", &self.limited),
            ("database", &self.failed),
            ("proof", &self.unproved),
        ] {
            let count = count.load(Relaxed);
            let _ = writeln!(
                page,
                "bakery_fleet_hellos_refused_total{{why=\"{why}\"}} {count}"
            );
        }
        head(
            &mut page,
            "machines",
            "gauge",
            "Machines by revision, ring and state",
        );
        for ((revision, ring, state), count) in &census.machines {
            let (name, number) = revision.split_once('@').unwrap_or((revision, ""));
            let _ = writeln!(
                page,
                "bakery_fleet_machines{{history=\"{name}\",revision=\"{number}\",ring=\"{ring}\",state=\"{}\"}} {count}",
                state.word()
            );
        }
        let help =
            "Machines that share a UUID, run twice at the same time, or sent hellos without proof";
        head(&mut page, "machines_doubtful", "gauge", help);
        let _ = writeln!(page, "bakery_fleet_machines_doubtful {}", census.doubtful);
        let help = "Machines that returned to their last good revision";
        head(&mut page, "machines_returned", "gauge", help);
        let _ = writeln!(page, "bakery_fleet_machines_returned {}", census.returned);
        let help = "Boots of the last hour, by last step";
        head(&mut page, "boots_last_hour", "gauge", help);
        for (step, count) in Step::ALL.iter().zip(census.boots) {
            let _ = writeln!(
                page,
                "bakery_fleet_boots_last_hour{{step=\"{step}\"}} {count}"
            );
        }
        page
    }
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(
        page,
        "# HELP bakery_fleet_{name} {help}.\n# TYPE bakery_fleet_{name} {kind}"
    );
}
