//! The edge of the file system: every failed request passes here, and faults are logged here.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::reply::{NodeId, ROOT_ID};
use super::tree::Tree;
use super::{LayerFs, lock};
use crate::error::Error;
use crate::metrics::Operation;
use crate::names::Names;
use crate::sys::Errno;

/// Faults logged in one period: a broken disk must not fill the log.
const LINES_MAX: u32 = 20;
/// Length of a period.
const PERIOD: Duration = Duration::from_secs(10);
/// Longest path in a log line, names.
const PATH_NAMES_MAX: usize = 64;

/// Limits the rate of log lines.
#[derive(Debug, Default)]
pub(super) struct FaultLog {
    period: Mutex<Period>,
}

#[derive(Debug, Default)]
struct Period {
    began: Option<Instant>,
    lines: u32,
    withheld: u64,
}

/// The decision about one fault.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    /// Log it, with the number of faults that were not logged before it.
    Log(u64),
    /// Log it, and say that no more follow in this period.
    LogLast,
    Withhold,
}

impl FaultLog {
    fn admit(&self, now: Instant) -> Admission {
        let mut period = lock(&self.period);
        let is_over = |began| now.saturating_duration_since(began) >= PERIOD;
        if period.began.is_none_or(is_over) {
            let withheld = period.withheld;
            *period = Period {
                began: Some(now),
                lines: 1,
                withheld: 0,
            };
            return Admission::Log(withheld);
        }
        period.lines = period.lines.saturating_add(1);
        match period.lines {
            lines if lines < LINES_MAX => Admission::Log(0),
            LINES_MAX => Admission::LogLast,
            _ => {
                period.withheld += 1;
                Admission::Withhold
            }
        }
    }
}

impl LayerFs {
    /// The errno with which a request about `node` fails. A fault is logged, once for each cause.
    #[inline]
    pub fn refuse(&self, operation: Operation, node: NodeId, error: &Error) -> Errno {
        if error.is_fault() {
            self.log_fault(operation, node, error);
        }
        error.errno()
    }

    #[cold]
    fn log_fault(&self, operation: Operation, node: NodeId, error: &Error) {
        if !error.is_news() {
            return;
        }
        let admission = self.faults.admit(Instant::now());
        if admission == Admission::Withhold {
            return;
        }
        if let Admission::Log(withheld @ 1..) = admission {
            tracing::warn!(withheld, "more requests failed and were not logged");
        }
        tracing::error!(
            operation = operation.name(),
            path = %self.path_of(node),
            errno = %error.errno(),
            "a request failed: {error}"
        );
        if admission == Admission::LogLast {
            tracing::warn!("failed requests are not logged for the next {PERIOD:?}");
        }
    }

    /// A path of a node, for the log. Not for decisions: names change.
    fn path_of(&self, node: NodeId) -> String {
        let tree = self.read_tree();
        let (mut at, mut names) = (node, Vec::new());
        while at != ROOT_ID && names.len() < PATH_NAMES_MAX {
            let named = match tree.get(at) {
                Some(node) => node.names.first().map(|(parent, name)| {
                    let name = String::from_utf8_lossy(name).into_owned();
                    (*parent, name)
                }),
                None => self.lower_name_of(&tree, at),
            };
            let Some((parent, name)) = named else {
                names.push(format!("(object {at})"));
                break;
            };
            names.push(name);
            at = parent;
        }
        names.reverse();
        match at {
            ROOT_ID => format!("/{}", names.join("/")),
            _ => names.join("/"),
        }
    }

    fn lower_name_of(&self, tree: &Tree, id: NodeId) -> Option<(NodeId, String)> {
        let row = self.numbers.row_of(id)?;
        let lower = self.lower();
        if !lower.index.is_whole() {
            return None;
        }
        let place = lower.names().places(row).next()?;
        let name = Names::name(&lower.index, place);
        let name = String::from_utf8_lossy(name).into_owned();
        Some((tree.kept_numbers.of_row(place.dir), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_cut_and_counted() {
        let (log, start) = (FaultLog::default(), Instant::now());
        for line in 1..LINES_MAX {
            assert_eq!(log.admit(start), Admission::Log(0), "{line}");
        }
        assert_eq!(log.admit(start), Admission::LogLast);
        for _ in 0..5 {
            assert_eq!(log.admit(start + PERIOD / 2), Admission::Withhold);
        }
        assert_eq!(log.admit(start + PERIOD), Admission::Log(5));
        assert_eq!(log.admit(start + PERIOD), Admission::Log(0));
    }
}
