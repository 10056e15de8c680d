//! Replaces the heads of a purge, eventually all of them, and deletes the old objects. The journal is a
//! sweeper's flag ([`guard`]): while it exists nobody publishes. It has every new head, so any process that
//! finds an abandoned journal can complete the purge.

use std::collections::BTreeSet;

use bytes::Bytes;
use layerfmt::Digest;
use serde::{Deserialize, Serialize};
use wire::manifest::ProfileName;
use wire::trust::{ENVELOPE_LEN_MAX, Envelope};

use super::{PurgeRequest, shown};
use crate::clock;
use crate::history::{History, HistoryError, Result, Revision, objects};
use crate::limits::JOURNAL_LEN_MAX;
use crate::store::{Created, Key, Store, StoreError, guard};

/// One head to be overwritten.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HeadChange {
    system: String,
    profile: String,
    revision: u64,
    /// Digest of the stored bytes of the old one.
    old: String,
    /// The new one, as stored.
    new: String,
}

/// The record of a purge, for the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PurgeRecord {
    time: u64,
    author: String,
    message: String,
    paths: Vec<String>,
    revisions: Vec<String>,
    /// Objects that still hold it.
    objects: Vec<String>,
}

/// A purge on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Journal {
    pub(super) record: PurgeRecord,
    pub(super) heads: Vec<HeadChange>,
}

/// The result of a deletion.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Deleted {
    /// Number of deleted objects.
    pub objects: Vec<String>,
    /// Objects that a revision names again: they stay.
    pub needed: Vec<String>,
    /// Another process publishes or sweeps: nothing was done.
    pub busy: bool,
}

/// State of a head compared with a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadState {
    Old,
    New,
    Other,
}

impl HeadChange {
    pub(super) fn of(history: &History, before: &Revision, envelope: &[u8]) -> Result<Self> {
        let name = before.name().name;
        let key = Key::head(&name, before.number());
        let old = history.store().require(&key, ENVELOPE_LEN_MAX as u64)?;
        // It must be the one that was rewritten.
        let head = Envelope::parse(&old)?;
        if Digest::of(head.payload.as_bytes()) != before.digest {
            return Err(meanwhile(&name));
        }
        Ok(HeadChange {
            system: name.system,
            profile: name.profile,
            revision: before.number(),
            old: Digest::of(&old).to_string(),
            new: String::from_utf8_lossy(envelope).into_owned(),
        })
    }

    fn name(&self) -> ProfileName {
        ProfileName {
            system: self.system.clone(),
            profile: self.profile.clone(),
        }
    }

    fn key(&self) -> Key {
        Key::head(&self.name(), self.revision)
    }

    fn state(&self, store: &Store) -> Result<HeadState> {
        let bytes = store.require(&self.key(), ENVELOPE_LEN_MAX as u64)?;
        Ok(match &bytes {
            bytes if *bytes == self.new.as_bytes() => HeadState::New,
            bytes if Digest::of(bytes).to_string() == self.old => HeadState::Old,
            _ => HeadState::Other,
        })
    }
}

impl PurgeRecord {
    pub(super) fn new(
        request: &PurgeRequest,
        revisions: &[String],
        objects: Vec<String>,
    ) -> PurgeRecord {
        PurgeRecord {
            time: clock::now(),
            author: request.author.clone(),
            message: request.message.clone(),
            paths: request.paths.iter().map(|path| shown(path)).collect(),
            revisions: revisions.to_vec(),
            objects,
        }
    }
}

impl Journal {
    /// Puts every new head in its place.
    pub(super) fn commit(&self, store: &Store) -> Result<()> {
        if guard::is_raised(store)? {
            return Err(busy());
        }
        let key = guard::journal_key(&ulid::Ulid::generate().to_string());
        if store.create_object(&key, json(self))? == Created::Exists {
            return Err(busy());
        }
        let ended = self.end(store, &key);
        if matches!(ended, Err(HistoryError::Refused(_))) {
            store.delete(&key)?;
        }
        ended
    }

    /// The second half, which may be repeated: [`HistoryError::Refused`] means that nothing was
    /// done.
    fn end(&self, store: &Store, key: &Key) -> Result<()> {
        if !guard::wait_for_publishers(store)? {
            return Err(busy());
        }
        let states = self.heads.iter().map(|head| head.state(store));
        let states = states.collect::<Result<Vec<_>>>()?;
        let begun = states.contains(&HeadState::New);
        if !begun {
            self.require_unchanged(store, &states)?;
        }
        if let Some((head, _)) = self
            .heads
            .iter()
            .zip(&states)
            .find(|(_, state)| **state == HeadState::Other)
        {
            let what = "it is neither the old nor the new head of an interrupted purge".to_owned();
            return Err(StoreError::Damaged {
                key: head.key(),
                what,
            }
            .into());
        }
        // The newest first: a publisher after a crash continues the new history.
        let mut heads: Vec<&HeadChange> = self.heads.iter().collect();
        heads.sort_by_key(|head| std::cmp::Reverse(head.revision));
        for head in heads {
            store.overwrite(&head.key(), Bytes::from(head.new.clone()))?;
        }
        let id = ulid::Ulid::generate().to_string();
        store.create_object(&Key::purge(&id), json(&self.record))?;
        Ok(store.delete(key)?)
    }

    /// No revision was published since the histories were read.
    fn require_unchanged(&self, store: &Store, states: &[HeadState]) -> Result<()> {
        let mut newest: std::collections::BTreeMap<ProfileName, u64> = Default::default();
        for (head, state) in self.heads.iter().zip(states) {
            if *state != HeadState::Old {
                return Err(meanwhile(&head.name()));
            }
            let number = newest.entry(head.name()).or_default();
            *number = head.revision.max(*number);
        }
        for (name, number) in newest {
            if store.len(&Key::head(&name, number + 1))?.is_some() {
                return Err(meanwhile(&name));
            }
        }
        Ok(())
    }
}

/// Completes interrupted purges; returns their number.
///
/// # Errors
/// One cannot be completed.
pub(crate) fn resume(store: &Store) -> Result<usize> {
    let mut ended = 0;
    for key in guard::journals(store)? {
        let bytes = store.require(&key, JOURNAL_LEN_MAX)?;
        let journal: Journal = serde_json::from_slice(&bytes).map_err(|error| {
            let what = error.to_string();
            StoreError::Damaged {
                key: key.clone(),
                what,
            }
        })?;
        match journal.end(store, &key) {
            // No head was written: the purge can be started again.
            Err(HistoryError::Refused(_)) => store.delete(&key)?,
            ended => ended?,
        }
        ended += 1;
    }
    Ok(ended)
}

/// Deletes objects with purged contents.
///
/// # Errors
/// A history cannot be read (nothing is deleted then) or the store fails.
pub(crate) fn delete(history: &History) -> Result<Deleted> {
    let store = history.store();
    let mut deleted = Deleted::default();
    let Some(_guard) = guard::sweep(store)? else {
        deleted.busy = true;
        return Ok(deleted);
    };
    let live = live(history)?;
    for (key, mut record) in records(store)? {
        for object in std::mem::take(&mut record.objects) {
            if live.contains(&object) {
                deleted.needed.push(object);
                continue;
            }
            store.delete(&Key::of_record(&object))?;
            deleted.objects.push(object);
        }
        store.overwrite(&key, json(&record))?;
    }
    Ok(deleted)
}

/// Objects of purges that are younger than `grace` seconds: machines that run may need them. A sweep leaves them.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn waiting(store: &Store, grace: u64) -> Result<BTreeSet<Key>> {
    let mut waiting = BTreeSet::new();
    for (_, record) in records(store)? {
        if clock::now().saturating_sub(record.time) < grace {
            waiting.extend(record.objects.iter().map(|object| Key::of_record(object)));
        }
    }
    Ok(waiting)
}

fn records(store: &Store) -> Result<Vec<(Key, PurgeRecord)>> {
    let mut records = Vec::new();
    for entry in store.list(wire::paths::Class::Purge.directory())? {
        let bytes = store.require(&entry.key, JOURNAL_LEN_MAX)?;
        match serde_json::from_slice(&bytes) {
            Ok(record) => records.push((entry.key, record)),
            Err(error) => tracing::warn!("{} cannot be read: {error}", entry.key),
        }
    }
    Ok(records)
}

/// The names of all objects that any revision names.
fn live(history: &History) -> Result<BTreeSet<String>> {
    let mut live = BTreeSet::new();
    for name in history.all_names()? {
        for revision in history.walk(&name, usize::MAX)? {
            live.extend(objects(&revision.manifest).map(|(key, _)| key.to_string()));
            live.insert(Key::manifest(&revision.head.manifest.digest).to_string());
        }
    }
    Ok(live)
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn busy() -> HistoryError {
    HistoryError::Refused(
        "another process publishes or sweeps; nothing was changed, try again".into(),
    )
}

fn meanwhile(name: &ProfileName) -> HistoryError {
    HistoryError::Refused(format!(
        "{name} was published meanwhile; nothing was changed, try again"
    ))
}
