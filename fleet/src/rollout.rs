//! Decides on promotions and quarantines: pure functions of a ring record and of the boots.
//!
//! `docs/FLEET.md` (F10, F11) is the specification.

use std::collections::BTreeSet;

use serde::Serialize;
use wire::manifest::{DEFAULT_RING, Ring, RingPolicy, RingRecord};

use crate::store::{GoodBoot, Trial, median};

/// Seconds in which failures of other revisions point to another reason.
const OTHERS_S: i64 = 3600;

/// The facts for the decisions about one history.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// The newest ring record.
    pub record: &'f RingRecord,
    /// The newest revision.
    pub newest: u64,
    /// The results of the revisions of all histories.
    pub trials: &'f [Trial],
    /// Seconds since 1970.
    pub now: i64,
}

/// A revision that fails on enough machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quarantine {
    /// The revision.
    pub revision: u64,
    /// The revision to which the rings return; `None`: there is none.
    pub good: Option<u64>,
    /// The machines on which it fails.
    pub machines: Vec<String>,
    /// One line about the failures.
    pub reason: String,
    /// The reason for not blaming the revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// The promotion into one ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Promotion {
    /// The ring.
    pub ring: String,
    /// The revision that it would get.
    pub revision: u64,
    /// Facts about the boots of the revision, one line.
    pub reason: String,
    /// Unmet conditions; empty: the ring gets the revision now.
    pub unmet: Vec<String>,
}

/// The boots of a ring's machines with its revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RingHealth {
    /// Machines of the ring.
    pub machines: usize,
    /// Of these, machines with a good boot of the revision.
    pub good: usize,
    /// Of these, machines on which it fails.
    pub failing: usize,
    /// Good boots of the revision.
    pub boots: usize,
    /// The median boot time of these, milliseconds.
    pub median_ms: Option<u64>,
}

impl Facts<'_> {
    fn of_history(&self) -> impl Iterator<Item = &Trial> {
        let name = self.record.name();
        self.trials
            .iter()
            .filter(move |trial| trial.history == name)
    }

    /// The place of a machine's ring.
    fn place(&self, trial: &Trial) -> usize {
        let named = self.record.place(&trial.ring);
        let all = || self.record.place(DEFAULT_RING);
        named.or_else(all).unwrap_or(0)
    }

    /// The present revision of a ring.
    #[must_use]
    pub fn current(&self, ring: &Ring) -> u64 {
        self.record.current(ring, self.newest)
    }

    /// The results of a ring's machines with its revision.
    #[must_use]
    pub fn standing(&self, place: usize) -> RingHealth {
        let Some(ring) = self.record.rings.get(place) else {
            return RingHealth::default();
        };
        let revision = self.current(ring);
        let of_ring: Vec<&Trial> = self
            .of_history()
            .filter(|trial| self.place(trial) == place)
            .collect();
        let of_revision = of_ring.iter().filter(|trial| trial.revision == revision);
        let times: Vec<u64> = (of_revision.clone())
            .flat_map(|trial| trial.good.iter().filter_map(|boot| boot.target_ms))
            .collect();
        RingHealth {
            machines: machines(of_ring.iter().copied()),
            good: of_revision
                .clone()
                .filter(|one| !one.good.is_empty())
                .count(),
            failing: of_revision.clone().filter(|one| one.fails).count(),
            boots: of_revision.map(|trial| trial.good.len()).sum(),
            median_ms: median(&times),
        }
    }

    /// The revisions of rings that fail on machines, each with the decision about its quarantine.
    #[must_use]
    pub fn quarantines(&self) -> Vec<Quarantine> {
        let mut present: BTreeSet<u64> = self
            .record
            .rings
            .iter()
            .map(|ring| self.current(ring))
            .collect();
        if !self.record.is_quarantined(self.newest) {
            present.insert(self.newest);
        }
        let judged = present.into_iter().filter_map(|one| self.judge(one));
        judged.collect()
    }

    fn judge(&self, revision: u64) -> Option<Quarantine> {
        let of_it = || self.of_history().filter(|trial| trial.revision == revision);
        let failing: Vec<&Trial> = of_it().filter(|trial| trial.fails).collect();
        let after = self.record.quarantine_after;
        if failing.is_empty() {
            return None;
        }
        let count = failing.len();
        let good = self.last_good(revision);
        let enough = after > 0 && count as u64 >= after;
        let held = if !enough {
            Some(match after {
                0 => "no revision is quarantined automatically".to_owned(),
                after => format!("{after} machines are necessary"),
            })
        } else if good.is_none() {
            Some("there is no older revision to return to".to_owned())
        } else {
            self.elsewhere(
                revision,
                count,
                of_it().filter(|one| one.last.is_some()).count(),
            )
        };
        Some(Quarantine {
            revision,
            good,
            machines: failing.iter().map(|trial| trial.label.clone()).collect(),
            reason: failures(&failing),
            held,
        })
    }

    /// F11.3: other revisions fail as well.
    fn elsewhere(&self, revision: u64, failing: usize, of: usize) -> Option<String> {
        let name = self.record.name();
        let others: Vec<&Trial> = (self.trials.iter())
            .filter(|one| {
                let known = one.history == name && self.record.is_quarantined(one.revision);
                !known && (&one.history, one.revision) != (&name, revision)
            })
            .filter(|one| one.last.is_some() && one.last_began >= self.now - OTHERS_S)
            .collect();
        let also = others.iter().filter(|trial| trial.fails).count();
        let is_elsewhere = also > 0 && also * of >= failing * others.len();
        is_elsewhere.then(|| {
            format!(
                "other revisions fail on {also} of {} machines in the same hour: the reason is elsewhere",
                others.len()
            )
        })
    }

    /// F11.2: the revision to return to.
    fn last_good(&self, revision: u64) -> Option<u64> {
        let is_older = |one: &u64| *one < revision && !self.record.is_quarantined(*one);
        let booted = self.of_history().filter(|trial| !trial.good.is_empty());
        let proven = booted.map(|trial| trial.revision).filter(is_older).max();
        let rings = self.record.rings.iter().map(|ring| ring.revision);
        proven.or_else(|| rings.filter(is_older).max())
    }

    /// The promotions that wait, with their unmet conditions.
    #[must_use]
    pub fn promotions(&self) -> Vec<Promotion> {
        let places = 1..self.record.rings.len();
        places.filter_map(|place| self.promotion(place)).collect()
    }

    fn promotion(&self, place: usize) -> Option<Promotion> {
        let ring = self.record.rings.get(place)?;
        let before = self.record.rings.get(place.checked_sub(1)?)?;
        let revision = self.current(before);
        if revision <= ring.revision {
            return None;
        }
        let within = ring.policy.map_or(i64::MAX, |policy| {
            i64::try_from(policy.within).unwrap_or(i64::MAX)
        });
        let since = self.now.saturating_sub(within);
        let ahead: Vec<&Trial> = self
            .of_history()
            .filter(|trial| self.place(trial) < place && trial.heard >= since)
            .collect();
        let of_it: Vec<&Trial> = (ahead.iter().copied())
            .filter(|trial| trial.revision == revision)
            .collect();
        let recent = |boot: &&GoodBoot| boot.began >= since;
        let boots: usize = (of_it.iter())
            .map(|trial| trial.good.iter().filter(recent).count())
            .sum();
        let good = of_it
            .iter()
            .filter(|one| one.good.iter().any(|boot| recent(&boot)));
        let (good, all) = (good.count(), machines(ahead.iter().copied()));
        let mut unmet = Vec::new();
        if ring.paused {
            unmet.push("the ring is paused".to_owned());
        }
        match &ring.policy {
            None => unmet.push("promoted by hand".to_owned()),
            Some(policy) => unmet.extend(too_few(policy, boots, good, all)),
        }
        let failing: Vec<&str> = (of_it.iter())
            .filter(|trial| trial.fails)
            .map(|trial| trial.label.as_str())
            .collect();
        if !failing.is_empty() {
            unmet.push(format!("it fails on {}", failing.join(", ")));
        }
        let slower = ring.policy.and_then(|policy| policy.slower);
        if let Some(slower) = slower
            && let Some(text) = self.too_slow((revision, ring.revision), slower, &of_it)
        {
            unmet.push(text);
        }
        Some(Promotion {
            ring: ring.name.clone(),
            revision,
            reason: format!("{boots} good boots, {good} of {all} machines"),
            unmet,
        })
    }

    /// F10.3: the boot times of `new`, compared with those of `old` on the same machines.
    fn too_slow(&self, (new, old): (u64, u64), slower: u64, of_it: &[&Trial]) -> Option<String> {
        let before: Vec<&Trial> = self
            .of_history()
            .filter(|trial| trial.revision == old && !trial.good.is_empty())
            .collect();
        let has = |trials: &[&Trial], machine: &str| {
            trials
                .iter()
                .any(|one| one.machine == machine && !one.good.is_empty())
        };
        let both: Vec<&str> = (before.iter())
            .map(|trial| trial.machine.as_str())
            .filter(|machine| has(of_it, machine))
            .collect();
        let times = |trials: &[&Trial]| {
            let counts =
                |trial: &&&Trial| both.is_empty() || both.contains(&trial.machine.as_str());
            let boots = trials.iter().filter(counts).flat_map(|one| &one.good);
            boots
                .filter_map(|boot| boot.target_ms)
                .collect::<Vec<u64>>()
        };
        let (then, now) = (median(&times(&before))?, median(&times(of_it))?);
        let limit = then.saturating_mul(slower.saturating_add(100)) / 100;
        (now > limit).then(|| {
            format!(
                "the median boot takes {} with {new} and {} with {old}: more than {slower} % slower",
                seconds(now),
                seconds(then)
            )
        })
    }
}

/// F10.2: the unmet numbers of a policy.
fn too_few(policy: &RingPolicy, boots: usize, good: usize, all: usize) -> Vec<String> {
    let mut unmet = Vec::new();
    if let Some(wanted) = policy.boots.filter(|wanted| (boots as u64) < *wanted) {
        unmet.push(format!("{boots} of {wanted} good boots"));
    }
    let share = |percent: &u64| (good as u64) * 100 < percent * all as u64 || all == 0;
    if let Some(percent) = policy.percent.filter(share) {
        unmet.push(format!(
            "{good} of {all} machines good, {percent} % are necessary"
        ));
    }
    unmet
}

/// Milliseconds, for people.
fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// The number of different machines.
fn machines<'t>(trials: impl Iterator<Item = &'t Trial>) -> usize {
    let ids: BTreeSet<&str> = trials.map(|trial| trial.machine.as_str()).collect();
    ids.len()
}

/// The failures of a revision, one line: `panic on pc1, pc2; degraded (cups.service) on pc3`.
fn failures(failing: &[&Trial]) -> String {
    let mut kinds: Vec<(String, Vec<&str>)> = Vec::new();
    for trial in failing {
        let mut kind = match (trial.restarts, trial.last) {
            (0, last) => last.map_or("failure", |last| last.word()).to_owned(),
            (restarts, _) => format!("boot loop of {restarts}"),
        };
        if !trial.why.is_empty() {
            kind.push_str(&format!(" ({})", trial.why));
        }
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, labels)) => labels.push(&trial.label),
            None => kinds.push((kind, vec![&trial.label])),
        }
    }
    let parts = kinds.iter().map(|(kind, labels)| {
        let (shown, more) = (labels.iter().take(5), labels.len().saturating_sub(5));
        let names = shown.copied().collect::<Vec<_>>().join(", ");
        match more {
            0 => format!("{kind} on {names}"),
            more => format!("{kind} on {names} and {more} more"),
        }
    });
    parts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
