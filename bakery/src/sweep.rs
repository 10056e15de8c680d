//! `bakery gc`: deletes objects that no retained revision reaches.
//!
//! Heads and manifests stay forever (they are the history); layers, indexes, packs and boot files
//! of revisions outside the policy are deleted, after a grace period, and never while a process
//! publishes ([`crate::store::guard`]). A revision that loses an object is marked first, so that
//! its absence is known to be intended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use wire::manifest::{ProfileName, RevisionName};
use wire::paths::{Class, ObjectPath};

use crate::history::{History, HistoryError, Result, Revision, objects};
use crate::limits::STORE_WALK_MAX;
use crate::purge;
use crate::store::{Key, ObjectEntry, guard};
use crate::update_pack;

/// The objects to retain.
#[derive(Debug, Clone)]
pub struct SweepPolicy {
    /// The newest revisions of every history.
    pub keep_last: usize,
    /// Also these: the bases of running jobs.
    pub keep: Vec<RevisionName>,
    /// Younger objects stay, even without references: they may become part of a revision.
    pub grace: Duration,
    /// Only list the objects to delete.
    pub dry_run: bool,
}

impl Default for SweepPolicy {
    fn default() -> Self {
        let grace = Duration::from_secs(24 * 3600);
        SweepPolicy {
            keep_last: 20,
            keep: Vec::new(),
            grace,
            dry_run: false,
        }
    }
}

/// The result of a sweep.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Swept {
    /// Number of revisions retained completely.
    pub revisions_kept: usize,
    /// Objects that were deleted, or would be.
    pub objects: Vec<String>,
    /// Their length, bytes.
    pub bytes: u64,
    /// Revisions that can no longer be booted, or would not be.
    pub revisions_swept: Vec<String>,
    /// Unreferenced objects that are too young.
    pub objects_waiting: usize,
    /// True if the sweep stopped early; run it again.
    pub unfinished: bool,
    /// Another process publishes or sweeps: nothing was done.
    pub busy: bool,
}

/// Sweeps the store of `history`.
///
/// # Errors
/// A history cannot be read (nothing is deleted then) or the store fails.
pub fn sweep(history: &History, policy: &SweepPolicy) -> Result<Swept> {
    let store = history.store();
    let mut swept = Swept::default();
    let Some(guard) = guard::sweep(store)? else {
        swept.busy = true;
        return Ok(swept);
    };
    let mut marks = mark(history, policy)?;
    marks
        .live
        .extend(purge::waiting(store, policy.grace.as_secs())?);
    swept.revisions_kept = marks.kept;
    let mut dead = Vec::new();
    // Never heads, keysets or tags, nor a manifest that a head names.
    for class in Class::CONTENT {
        for entry in store.list(class.directory())? {
            if marks.live.contains(&entry.key) {
                continue;
            }
            if is_young(&entry, policy.grace) {
                swept.objects_waiting += 1;
            } else {
                dead.push(entry);
            }
        }
    }
    let mut others = store.list(Class::Update.directory())?;
    let is_needed = |key: &Key| match key.object() {
        // Retained revisions have both ends.
        Some(ObjectPath::Delta(to, from)) => {
            let ends = [to, from];
            ends.iter().all(|end| marks.live.contains(&Key::index(end)))
        }
        _ => marks.live.contains(key),
    };
    others.extend(store.list(Class::Delta.directory())?);
    for entry in others {
        if is_needed(&entry.key) {
            continue;
        }
        if is_young(&entry, policy.grace) {
            swept.objects_waiting += 1;
        } else {
            dead.push(entry);
        }
    }
    let losers: BTreeSet<&RevisionName> = dead
        .iter()
        .filter_map(|entry| marks.named_by.get(&entry.key))
        .flatten()
        .collect();
    for revision in losers {
        swept.revisions_swept.push(revision.to_string());
        if !policy.dry_run {
            history.mark_swept(revision)?;
        }
    }
    for entry in dead {
        if !guard.holds() {
            swept.unfinished = true;
            break;
        }
        if !policy.dry_run {
            store.delete(&entry.key)?;
        }
        swept.bytes += entry.len;
        swept.objects.push(entry.key.to_string());
    }
    if !policy.dry_run {
        store.sweep_staging(policy.grace)?;
    }
    Ok(swept)
}

#[derive(Default)]
struct Reachable {
    live: BTreeSet<Key>,
    /// Revisions outside the policy, by the objects that they name.
    named_by: BTreeMap<Key, Vec<RevisionName>>,
    kept: usize,
}

/// Every history is walked to its first revision: all manifests live, all objects of retained
/// revisions live. A broken link ends the sweep before anything is deleted.
fn mark(history: &History, policy: &SweepPolicy) -> Result<Reachable> {
    let mut marks = Reachable::default();
    for name in history.all_names()? {
        let removed = history.is_removed(&name)?;
        let mut tagged = history.tagged(&name)?;
        // The machines of a ring boot its revision, however old it is.
        let rings = history.unsigned_rings(&name)?;
        let rings = rings.map(|rings| rings.record.rings).unwrap_or_default();
        tagged.extend(rings.iter().map(|ring| ring.revision));
        let revisions = history.walk(&name, STORE_WALK_MAX)?;
        // A renewed head needs the same objects as its predecessor: it does not count.
        let (mut age, mut needed) = (0, None);
        for revision in &revisions {
            let needs: Vec<_> = objects(&revision.manifest).collect();
            if needed.as_ref().is_some_and(|needed| *needed != needs) {
                age += 1;
            }
            needed = Some(needs);
            marks
                .live
                .insert(Key::manifest(&revision.head.manifest.digest));
            let number = revision.number();
            let kept = !removed && (age < policy.keep_last.max(1) || tagged.contains(&number))
                || policy.keep.contains(&revision.name());
            marks.add(revision, kept);
        }
        if let Some(newest) = revisions.first().filter(|_| !removed) {
            let offers = update_pack::leading_to(history.store(), &name, newest.number());
            let offers = offers.map_err(|error| HistoryError::Refused(error.to_string()))?;
            let wanted = offers
                .into_iter()
                .filter(|offer| update_pack::is_wanted(offer, &revisions, policy.keep_last));
            marks.live.extend(wanted.map(|offer| offer.key));
        }
        // The base of a profile must exist for its next rebase.
        let base = revisions.first().filter(|_| !removed);
        if let Some(base) = base.and_then(|head| head.manifest.base.as_ref()) {
            let name = ProfileName::new(&name.system, &base.profile)?;
            let revision = RevisionName {
                name,
                revision: Some(base.revision),
            };
            marks.add(&history.walk_to(&revision)?, true);
        }
    }
    Ok(marks)
}

impl Reachable {
    fn add(&mut self, revision: &Revision, kept: bool) {
        for (key, _) in objects(&revision.manifest) {
            if kept {
                self.live.insert(key);
            } else {
                self.named_by.entry(key).or_default().push(revision.name());
            }
        }
        self.kept += usize::from(kept);
    }
}

fn is_young(entry: &ObjectEntry, grace: Duration) -> bool {
    // An object from the future, because a clock was set back. It waits until its time.
    SystemTime::now()
        .duration_since(entry.modified)
        .is_ok_and(|age| age < grace)
        || (entry.modified > SystemTime::now() && !grace.is_zero())
}
