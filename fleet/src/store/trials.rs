//! The results of the revisions on the machines.

use std::collections::BTreeMap;

use serde::Serialize;
use wire::hello::Step;
use wire::manifest::{DEFAULT_RING, ProfileName, RevisionName};

use super::judge::{Ended, is_excused};
use super::link::params;
use super::machines::parsed;
use super::{Database, Result};
use crate::ending::{Ending, LOOP_LEN};
use crate::record::{BOOT_DEADLINE_S, Boot};

/// A boot with its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The boot.
    #[serde(flatten)]
    pub boot: Boot,
    /// Its end.
    pub ending: Ending,
    /// True if a failure has another explanation: a power cut or an outage.
    pub excused: bool,
}

/// One good boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GoodBoot {
    /// Time of its start, seconds since 1970.
    pub began: i64,
    /// Milliseconds from the kernel's start to the target, if known.
    pub target_ms: Option<u64>,
}

/// One revision on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// The machine's id.
    pub machine: String,
    /// The machine's name, else its id.
    pub label: String,
    /// The assigned ring.
    pub ring: String,
    /// The history.
    #[serde(skip)]
    pub history: ProfileName,
    /// The revision.
    pub revision: u64,
    /// Last message of a boot of it, seconds since 1970.
    pub heard: i64,
    /// Its good boots.
    pub good: Vec<GoodBoot>,
    /// True if the revision fails on this machine (F11.1).
    pub fails: bool,
    /// The end of the last boot that counts; `None` if none counts yet.
    pub last: Option<Ending>,
    /// Time of the start of that boot.
    pub last_began: i64,
    /// The reason or the failed units of that boot.
    pub why: String,
    /// Consecutive restarts at the end, if they are a boot loop.
    pub restarts: usize,
}

impl Database {
    /// The boots of a machine with their ends, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn outcomes(&self, id: &str, now: i64) -> Result<Vec<Outcome>> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        let (mut next, mut switches) = (None, false);
        for boot in self.boots(id)? {
            let ending = match switches && boot.step < Step::Target {
                true => Ending::Switched,
                false => Ending::of(&boot, next, now),
            };
            let excused = ending.is_failure()
                && match next {
                    _ if boot.step_before.is_some() => !blames(&boot),
                    Some(next) => is_excused(&self.connection, id, &Ended::of(&boot, next))?,
                    None => false,
                };
            next = Some(boot.began);
            switches = boot.step_before.is_some();
            outcomes.push(Outcome {
                boot,
                ending,
                excused,
            });
        }
        mark_slow(&mut outcomes);
        Ok(outcomes)
    }

    /// The results of the revisions on every machine since a time.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn trials(&self, since: i64, now: i64) -> Result<Vec<Trial>> {
        let machines = self.connection.rows(
            "SELECT id, coalesce(machines.name, id), machines.assignment, groups.assignment FROM machines
             LEFT JOIN groups ON groups.name = machines.grp WHERE last_seen >= ?1 ORDER BY 2",
            &params![since],
        )?;
        let mut trials = Vec::new();
        for row in machines {
            let (id, label): (String, String) = (row.get(0)?, row.get(1)?);
            let (own, of_group) = (parsed(row.get(2)?), parsed(row.get(3)?));
            let ring = own.over(of_group).ring;
            let mut outcomes = self.outcomes(&id, now)?;
            outcomes.retain(|outcome| outcome.boot.heard >= since);
            let ring = ring.unwrap_or_else(|| DEFAULT_RING.to_owned());
            trials.extend(of_machine(&id, &label, &ring, &outcomes));
        }
        Ok(trials)
    }
}

/// True if a switch made a healthy machine degraded, for a long time (F4.6).
fn blames(switch: &Boot) -> bool {
    let was_healthy = switch.step_before == Some(Step::Healthy);
    was_healthy && switch.heard - switch.began > BOOT_DEADLINE_S
}

/// The trials of one machine; `outcomes` are newest first.
fn of_machine(id: &str, label: &str, ring: &str, outcomes: &[Outcome]) -> Vec<Trial> {
    let mut by_revision: BTreeMap<RevisionName, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        if let Ok(name) = outcome.boot.revision.parse::<RevisionName>() {
            by_revision.entry(name).or_default().push(outcome);
        }
    }
    let trials = by_revision.into_iter().filter_map(|(name, outcomes)| {
        let counted = |outcome: &&&Outcome| {
            outcome.ending.is_good() || outcome.ending.is_failure() && !outcome.excused
        };
        let counted: Vec<&Outcome> = outcomes.iter().filter(counted).copied().collect();
        let last = counted.first();
        let good = counted.iter().filter(|one| one.ending.is_good());
        let restarts = (outcomes.iter())
            .skip_while(|one| one.ending == Ending::Booting)
            .take_while(|one| one.ending.is_restart())
            .count();
        Some(Trial {
            machine: id.to_owned(),
            label: label.to_owned(),
            ring: ring.to_owned(),
            history: name.name,
            revision: name.revision?,
            heard: outcomes.first().map_or(0, |one| one.boot.heard),
            good: good
                .map(|one| GoodBoot {
                    began: one.boot.began,
                    target_ms: one.boot.target_ms,
                })
                .collect(),
            fails: fails(&counted),
            last: last.map(|one| one.ending),
            last_began: last.map_or(0, |one| one.boot.began),
            why: last.map(|one| why(&one.boot)).unwrap_or_default(),
            restarts: if restarts >= LOOP_LEN { restarts } else { 0 },
        })
    });
    trials.collect()
}

/// F11.1: the last two boots failed, or the last one reports failures for a long time.
fn fails(counted: &[&Outcome]) -> bool {
    let Some(last) = counted.first() else {
        return false;
    };
    let target_s = last.boot.target_ms.unwrap_or(0) / 1000;
    let reached = last.boot.began + i64::try_from(target_s).unwrap_or(0);
    let for_long = last.boot.heard - reached > BOOT_DEADLINE_S;
    if last.ending == Ending::Degraded && for_long {
        return true;
    }
    let mut two = counted.iter().take(2);
    counted.len() >= 2 && two.all(|one| one.ending.is_failure())
}

fn why(boot: &Boot) -> String {
    let health = boot.hello.as_ref().and_then(|hello| hello.health.as_ref());
    match health {
        Some(health) if boot.why.is_empty() => {
            let failed = health.units.iter().chain(&health.checks);
            failed.map(String::as_str).collect::<Vec<_>>().join(" ")
        }
        _ => boot.why.clone(),
    }
}

/// A good boot is slow if it took more than 1.5 times the median of the good boots of older
/// revisions of the history on this machine. Without two such boots no boot is slow.
fn mark_slow(outcomes: &mut [Outcome]) {
    let name = |outcome: &Outcome| outcome.boot.revision.parse::<RevisionName>().ok();
    let known: Vec<(RevisionName, u64)> = (outcomes.iter())
        .filter(|outcome| outcome.ending == Ending::Good)
        .filter_map(|outcome| Some((name(outcome)?, outcome.boot.target_ms?)))
        .collect();
    for outcome in outcomes {
        let (Some(revision), Some(ms)) = (name(outcome), outcome.boot.target_ms) else {
            continue;
        };
        let older = known
            .iter()
            .filter(|(other, _)| other.name == revision.name && other.revision < revision.revision);
        let times: Vec<u64> = older.map(|(_, ms)| *ms).collect();
        let limit = median(&times).filter(|_| times.len() >= 2);
        let is_slow = limit.is_some_and(|median| ms > median + median / 2);
        if outcome.ending == Ending::Good && is_slow {
            outcome.ending = Ending::Slow;
        }
    }
}

/// The median of times; `None` if there are none.
#[must_use]
pub fn median(times: &[u64]) -> Option<u64> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}
