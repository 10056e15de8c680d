//! Tests the one property of a store on which histories depend. Some stores do not have it. Garage
//! 2.5 ignores `If-None-Match`, so a second writer silently overwrites the first. s3s-fs 0.14
//! checks before it writes, so several concurrent writers succeed. Both would lose revisions.
//! Therefore a store is tested before its first use.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use super::{Created, Key, Result, Store, StoreError};
use crate::limits::PROBE_LEN_MAX;

/// Number of concurrent writers of one name, and number of names.
const RACERS: usize = 8;
const RACES: usize = 5;

/// Maximum delay until a deletion is visible: the members of a cluster learn of it one after the
/// other. This loses no data.
const DELETE_PATIENCE: Duration = Duration::from_secs(10);

/// One property of a store, and the result of its test.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The tested property.
    pub question: &'static str,
    /// The wrong answer, if any.
    pub defect: Option<String>,
}

impl Finding {
    fn new(question: &'static str, defect: Option<String>) -> Finding {
        Finding { question, defect }
    }
}

/// Probe a store: writes a few small objects below `probe/` and deletes them again.
///
/// # Errors
/// When the store cannot be written to at all.
pub fn probe(store: &Store) -> Result<Vec<Finding>> {
    let id = ulid::Ulid::generate().to_string();
    let findings = ask(store, &id);
    for entry in store.list(&format!("probe/{id}"))? {
        store.delete(&entry.key)?;
    }
    findings
}

/// Refuses a store that fails the test.
///
/// # Errors
/// [`StoreError::Location`] with the failure, or it cannot be written.
pub fn require_sound(store: &Store) -> Result<()> {
    let defects: Vec<String> = probe(store)?
        .into_iter()
        .filter_map(|f| f.defect.map(|defect| format!("{}: {defect}", f.question)))
        .collect();
    if defects.is_empty() {
        return Ok(());
    }
    Err(StoreError::Location(format!(
        "{} cannot hold histories, revisions would be lost: {}; use a local directory, \
         SeaweedFS, Ceph or AWS S3",
        store.location(),
        defects.join("; ")
    )))
}

fn ask(store: &Store, id: &str) -> Result<Vec<Finding>> {
    let key = Key::probe(id, "first");
    let mut findings = Vec::new();
    let absent = store
        .get(&key, PROBE_LEN_MAX)?
        .map(|_| "it has one".to_owned());
    findings.push(Finding::new("an object nobody wrote is absent", absent));
    let first = store.create_object(&key, Bytes::from_static(b"first"))?;
    let refused = (first != Created::New).then(|| "it reports that the name is taken".to_owned());
    findings.push(Finding::new("a new name can be created", refused));
    let second = store.create_object(&key, Bytes::from_static(b"other"))?;
    let overwrote = (second != Created::Exists).then(|| "it was created again".to_owned());
    findings.push(Finding::new(
        "a taken name cannot be created again",
        overwrote,
    ));
    let read = store.get(&key, PROBE_LEN_MAX)?;
    let changed = (read.as_deref() != Some(b"first")).then(|| format!("it reads {read:?}"));
    findings.push(Finding::new("the first bytes are read back", changed));
    let listed = store.list(&format!("probe/{id}"))?;
    let unlisted = !(listed.len() == 1 && listed.iter().all(|entry| entry.key == key));
    let unlisted = unlisted.then(|| format!("it lists {} objects", listed.len()));
    findings.push(Finding::new("what was written is listed", unlisted));
    findings.push(Finding::new(
        "one of several concurrent writers succeeds, and its bytes are stored",
        races(store, id)?,
    ));
    store.delete(&key)?;
    let start = Instant::now();
    let mut left = store.len(&key)?;
    while left.is_some() && start.elapsed() < DELETE_PATIENCE {
        std::thread::sleep(Duration::from_millis(200));
        left = store.len(&key)?;
    }
    let left = left.map(|_| "it is still there".to_owned());
    findings.push(Finding::new("a deleted object is gone", left));
    Ok(findings)
}

fn races(store: &Store, id: &str) -> Result<Option<String>> {
    for race in 0..RACES {
        let key = Key::probe(id, &format!("race-{race}"));
        let start = Barrier::new(RACERS);
        let outcomes: Vec<Result<Created>> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|racer| {
                    let (key, start) = (&key, &start);
                    scope.spawn(move || {
                        start.wait();
                        store.create_object(key, Bytes::from(format!("racer {racer}")))
                    })
                })
                .collect();
            racers
                .into_iter()
                .filter_map(|racer| racer.join().ok())
                .collect()
        });
        let outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
        let winners: Vec<usize> = outcomes
            .iter()
            .enumerate()
            .filter_map(|(racer, outcome)| (*outcome == Created::New).then_some(racer))
            .collect();
        let [winner] = winners[..] else {
            return Ok(Some(format!("{} of {RACERS} won", winners.len())));
        };
        let read = store.get(&key, PROBE_LEN_MAX)?;
        if read.as_deref() != Some(format!("racer {winner}").as_bytes()) {
            return Ok(Some(format!(
                "writer {winner} succeeded, but {read:?} was read"
            )));
        }
    }
    Ok(None)
}
