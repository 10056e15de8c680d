//! The contents of the overview, made in the background while a person uses the console.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bakery::history::History;
use bakery::jobs::{Spool, SpoolState};
use fleet::record::State;
use fleet::store::{Database, Filter};
use wire::manifest::{ProfileName, RevisionName};

use crate::chains::Chains;
use crate::problem::Result;
use crate::text::now;

/// Age up to which a snapshot is shown.
const FRESH: Duration = Duration::from_secs(3);
/// Time after the last look during which snapshots are made.
const WATCHED: Duration = Duration::from_secs(15);

/// A ring of a history.
#[derive(Debug, Clone)]
pub(crate) struct RingLine {
    /// The name of the ring.
    pub(crate) name: String,
    /// Its revision.
    pub(crate) revision: u64,
    /// True if it keeps its revision.
    pub(crate) is_paused: bool,
}

/// One history.
#[derive(Debug, Clone)]
pub(crate) struct HistoryLine {
    /// Its name.
    pub(crate) name: ProfileName,
    /// The number of the newest revision.
    pub(crate) newest: u64,
    /// Its time, seconds since 1970.
    pub(crate) time: u64,
    /// Its author.
    pub(crate) author: String,
    /// The first line of its message.
    pub(crate) subject: String,
    /// The base of a profile.
    pub(crate) base: Option<RevisionName>,
    /// Revisions by which the base has advanced.
    pub(crate) behind: u64,
    /// The rings, in the order of promotion; none without ring records.
    pub(crate) rings: Vec<RingLine>,
    /// Number of quarantined revisions.
    pub(crate) quarantined: usize,
    /// Machines whose last boot was of this history.
    pub(crate) machines: u64,
    /// Of these, machines with an older revision than the newest.
    pub(crate) old: u64,
}

impl HistoryLine {
    /// The page of the history.
    pub(crate) fn page(&self) -> String {
        page_of(&self.name)
    }
}

/// The page of a history.
pub(crate) fn page_of(name: &ProfileName) -> String {
    match name.profile.as_str() {
        wire::manifest::DEFAULT_PROFILE => format!("/systems/{}", name.system),
        profile => format!("/systems/{}?profile={profile}", name.system),
    }
}

/// The whole bakery at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    made: Instant,
    /// All histories, by name.
    pub(crate) histories: Vec<HistoryLine>,
    /// Histories that cannot be read, each with the reason.
    pub(crate) broken: Vec<(String, String)>,
    /// Number of revisions.
    pub(crate) revisions: usize,
    /// Bytes of all layers.
    pub(crate) bytes: u64,
    /// Number of machines in each state; none without a fleet.
    pub(crate) states: Option<Vec<(State, u64)>>,
    /// Machines that returned to their last good revision.
    pub(crate) returned: u64,
    /// Jobs that wait, run, and failed.
    pub(crate) jobs: (usize, usize, usize),
    /// Jobs that wait for an approval.
    pub(crate) unapproved: usize,
}

/// The newest snapshot.
#[derive(Debug, Default)]
pub(crate) struct Snapshots(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    newest: Option<Arc<Snapshot>>,
    asked: Option<Instant>,
}

impl Snapshots {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest snapshot, if it can be shown.
    pub(crate) fn fresh(&self) -> Option<Arc<Snapshot>> {
        let mut kept = self.kept();
        kept.asked = Some(Instant::now());
        kept.newest.clone().filter(|one| one.made.elapsed() < FRESH)
    }

    /// True while a person uses the console.
    pub(crate) fn are_watched(&self) -> bool {
        self.kept().asked.is_some_and(|at| at.elapsed() < WATCHED)
    }

    /// Replaces the snapshot.
    pub(crate) fn put(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        self.kept().newest = Some(Arc::clone(&snapshot));
        snapshot
    }

    /// Drops the snapshot, because an action changed something.
    pub(crate) fn forget(&self) {
        self.kept().newest = None;
    }
}

/// Machines of each history: all, and those with an older revision.
type Counts = BTreeMap<ProfileName, BTreeMap<u64, u64>>;

/// Reads the state of everything.
///
/// # Errors
/// The store cannot be listed, or the database fails.
pub(crate) fn take(
    history: &History,
    chains: &Chains,
    database: Option<&Database>,
    spool: Option<&Spool>,
) -> Result<Snapshot> {
    let made = Instant::now();
    let mut snapshot = Snapshot {
        made,
        histories: Vec::new(),
        broken: Vec::new(),
        revisions: 0,
        bytes: 0,
        states: None,
        returned: 0,
        jobs: (0, 0, 0),
        unapproved: 0,
    };
    let mut counts = Counts::new();
    if let Some(database) = database {
        machines(database, &mut snapshot, &mut counts)?;
    }
    let mut layers = BTreeSet::new();
    for name in history.names()? {
        match line(history, chains, &name, counts.get(&name)) {
            Ok((line, chain)) => {
                snapshot.revisions += chain.len();
                for layer in chain.iter().flat_map(|revision| &revision.manifest.layers) {
                    if layers.insert(layer.digest) {
                        snapshot.bytes += layer.len;
                    }
                }
                snapshot.histories.push(line);
            }
            Err(problem) => snapshot.broken.push((name.to_string(), problem.text)),
        }
    }
    if let Some(spool) = spool {
        jobs(spool, &mut snapshot)?;
    }
    Ok(snapshot)
}

fn machines(database: &Database, snapshot: &mut Snapshot, counts: &mut Counts) -> Result<()> {
    let mut states: BTreeMap<State, u64> = State::ALL.iter().map(|state| (*state, 0)).collect();
    let seconds = i64::try_from(now()).unwrap_or(i64::MAX);
    for machine in database.machines(&Filter::default(), seconds)? {
        *states.entry(machine.state).or_default() += 1;
        snapshot.returned += u64::from(machine.returned.is_some());
        if let Ok(RevisionName {
            name,
            revision: Some(number),
        }) = machine.revision().parse::<RevisionName>()
        {
            *counts.entry(name).or_default().entry(number).or_default() += 1;
        }
    }
    snapshot.states = Some(states.into_iter().collect());
    Ok(())
}

fn line(
    history: &History,
    chains: &Chains,
    name: &ProfileName,
    counts: Option<&BTreeMap<u64, u64>>,
) -> Result<(HistoryLine, crate::chains::Chain)> {
    let chain = chains.of(history, name)?;
    let head = chain.first().ok_or_else(|| history.no_history(name))?;
    let manifest = &head.manifest;
    let newest = head.number();
    let mut behind = 0;
    let base = manifest.base.as_ref().map(|base| {
        let on = ProfileName {
            system: name.system.clone(),
            profile: base.profile.clone(),
        };
        behind = history
            .newest(&on)
            .ok()
            .flatten()
            .unwrap_or(0)
            .saturating_sub(base.revision);
        crate::chains::at(&on, base.revision)
    });
    let record = history.rings(name)?.map(|rings| rings.record);
    let rings = record.iter().flat_map(|record| {
        record.rings.iter().map(|ring| RingLine {
            name: ring.name.clone(),
            revision: record.current(ring, newest),
            is_paused: ring.paused,
        })
    });
    let counts = counts.into_iter().flatten();
    let line = HistoryLine {
        name: name.clone(),
        newest,
        time: manifest.time,
        author: manifest.author.clone(),
        subject: manifest
            .message
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
        base,
        behind,
        rings: rings.collect(),
        quarantined: record.as_ref().map_or(0, |record| record.quarantined.len()),
        machines: counts.clone().map(|(_, count)| count).sum(),
        old: counts
            .filter(|(number, _)| **number < newest)
            .map(|(_, count)| count)
            .sum(),
    };
    Ok((line, chain))
}

fn jobs(spool: &Spool, snapshot: &mut Snapshot) -> Result<()> {
    let count = |state| spool.jobs(state).map(|jobs| jobs.len());
    let queued = spool.jobs(SpoolState::Queued)?;
    let waits = |job: &&bakery::jobs::Job| {
        let request = job.request();
        request.is_ok_and(|request| spool.waits_for_approval(job, &request.target))
    };
    snapshot.unapproved = queued.iter().filter(waits).count();
    snapshot.jobs = (
        queued.len(),
        count(SpoolState::Running)?,
        count(SpoolState::Failed)?,
    );
    Ok(())
}
