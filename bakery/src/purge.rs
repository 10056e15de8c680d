//! `bakery purge`: removes a path, for example a secret, from history.
//!
//! The only command that rewrites history: every layer with the path is written again without it,
//! and every revision based on one gets a new manifest and a new head of the same number, signed by
//! our own key. The old objects stay until they are deleted in a second step, because machines that
//! booted from them still read them. `docs/OPERATIONS.md` describes the effects on readers of the
//! store.

mod journal;
mod layers;
mod scan;

use std::collections::{BTreeMap, BTreeSet};

use layerfmt::Digest;
use serde::Serialize;
use wire::manifest::{Manifest, ObjectRef, ProfileName};
use wire::paths::{Class, ObjectPath};

use crate::history::{History, HistoryError, Result, Revision, objects};
use crate::publish::{Publisher, Rewritten};
use crate::store::{Key, StoreError};

pub(crate) use journal::{Deleted, delete, resume, waiting};
use journal::{HeadChange, Journal, PurgeRecord};
use layers::Rewriting;
use scan::Scan;

/// Parameters of a purge.
#[derive(Debug, Clone)]
pub(crate) struct PurgeRequest {
    /// The system to purge; none: all systems.
    pub system: Option<String>,
    /// The paths, without a leading slash; a directory includes everything below it.
    pub paths: Vec<Vec<u8>>,
    /// Only list the revisions that would be rewritten.
    pub dry_run: bool,
    /// Author of the purge.
    pub author: String,
    /// Reason for the purge.
    pub message: String,
}

/// The result of a purge.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Purged {
    /// Rewritten revisions, or those that would be.
    pub revisions: Vec<String>,
    /// Rewritten layers, or those that would be.
    pub layers: usize,
    /// Other paths with the same content, which were not named.
    pub elsewhere: Vec<String>,
    /// Objects that still contain purged data.
    pub objects: Vec<String>,
}

/// One history, oldest revision first.
struct Lineage {
    name: ProfileName,
    revisions: Vec<Revision>,
}

/// Rewrites every history with the paths.
///
/// # Errors
/// [`HistoryError::Refused`]: no revision has the paths or another process published meanwhile; or
/// a layer cannot be read or written.
/// Nothing is changed then.
pub(crate) fn purge(publisher: &Publisher, request: &PurgeRequest) -> Result<Purged> {
    let history = publisher.history();
    let lines = lines(history)?;
    if let Some(system) = &request.system
        && !lines.iter().any(|line| line.name.system == *system)
        && let Ok(name) = system.parse()
    {
        return Err(history.no_history(&name));
    }
    let scan = Scan::of(history, &lines, request)?;
    if scan.hits.is_empty() {
        let paths: Vec<String> = request.paths.iter().map(|path| shown(path)).collect();
        let of = request.system.as_deref().unwrap_or("any system");
        let what = format!("no layer of {of} has {}", paths.join(" or "));
        return Err(HistoryError::Refused(what));
    }
    let mut purged = Purged {
        layers: scan.rewritten.len(),
        ..Purged::default()
    };
    if request.dry_run {
        for revision in lines.iter().flat_map(|line| &line.revisions) {
            if scan.touches(&revision.manifest) {
                purged.revisions.push(revision.name().to_string());
            }
        }
        return Ok(purged);
    }
    let rewriting = Rewriting::of(history, &scan, request)?;
    let mut heads = Vec::new();
    let (mut old, mut live) = (BTreeSet::new(), BTreeSet::new());
    for line in &lines {
        for (before, after) in rewrite_line(publisher, line, &rewriting.mapped, request)? {
            let manifest = after
                .as_ref()
                .map_or(&before.manifest, |after| &after.revision.manifest);
            let head = after
                .as_ref()
                .map_or(&before.head, |after| &after.revision.head);
            live.extend(objects(manifest).map(|(key, _)| key));
            live.insert(Key::manifest(&head.manifest.digest));
            let Some(after) = after else { continue };
            purged.revisions.push(before.name().to_string());
            old.extend(objects(&before.manifest).map(|(key, _)| key));
            old.insert(Key::manifest(&before.head.manifest.digest));
            heads.push(HeadChange::of(history, before, &after.envelope)?);
        }
    }
    old.extend(scan.strays.iter().cloned());
    old.extend(updates(history, &lines, &heads)?);
    old.extend(deltas(history, &old, &live)?);
    let mut held = Vec::new();
    for key in old.difference(&live) {
        if history.store().len(key)?.is_some() {
            held.push(key.to_string());
        }
    }
    purged.elsewhere = rewriting.elsewhere(history, &lines, &scan)?;
    purged.objects.clone_from(&held);
    let record = PurgeRecord::new(request, &purged.revisions, held);
    let is_changed = !heads.is_empty();
    Journal { record, heads }.commit(history.store())?;
    // Ring records name digests of heads. Clients accept the new heads by their own signatures too.
    for line in lines.iter().filter(|_| is_changed) {
        if !history.is_removed(&line.name)? {
            publisher.renew_rings(&line.name, &request.author)?;
        }
    }
    Ok(purged)
}

/// The update packs of the histories that are rewritten: they hold contents of both their ends.
fn updates(history: &History, lines: &[Lineage], heads: &[HeadChange]) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    for line in lines.iter().filter(|_| !heads.is_empty()) {
        let directory = ObjectPath::updates_of(&line.name);
        let entries = history.store().list(&directory)?;
        keys.extend(entries.into_iter().map(|entry| entry.key));
    }
    Ok(keys)
}

/// The index deltas to or from indexes that are rewritten: they hold names of both.
fn deltas(history: &History, old: &BTreeSet<Key>, live: &BTreeSet<Key>) -> Result<Vec<Key>> {
    let is_old = |index: &Digest| {
        let key = Key::index(index);
        old.contains(&key) && !live.contains(&key)
    };
    let entries = history.store().list(Class::Delta.directory())?;
    let of_old = entries
        .into_iter()
        .filter(|entry| match entry.key.object() {
            Some(ObjectPath::Delta(to, from)) => is_old(&to) || is_old(&from),
            _ => false,
        });
    Ok(of_old.map(|entry| entry.key).collect())
}

fn lines(history: &History) -> Result<Vec<Lineage>> {
    let mut lines = Vec::new();
    for name in history.all_names()? {
        let mut revisions = history.walk(&name, usize::MAX)?;
        revisions.reverse();
        lines.push(Lineage { name, revisions });
    }
    Ok(lines)
}

type RewriteStep<'l> = (&'l Revision, Option<Rewritten>);

/// The revisions of one history, each with its replacement, if any.
fn rewrite_line<'l>(
    publisher: &Publisher,
    line: &'l Lineage,
    mapped: &BTreeMap<Digest, ObjectRef>,
    request: &PurgeRequest,
) -> Result<Vec<RewriteStep<'l>>> {
    let history = publisher.history();
    let removed = history.is_removed(&line.name)?;
    let mut steps: Vec<RewriteStep<'l>> = Vec::new();
    let paths: Vec<String> = request.paths.iter().map(|path| shown(path)).collect();
    for revision in &line.revisions {
        let parent = steps.last();
        let parent_anew = parent.is_some_and(|(_, after)| after.is_some());
        let parent =
            parent.map(|(before, after)| after.as_ref().map_or(*before, |after| &after.revision));
        let touched = is_touched(&revision.manifest, mapped);
        if !touched && !parent_anew {
            steps.push((revision, None));
            continue;
        }
        let mut manifest = revision.manifest.clone();
        if touched {
            let gone = removed || history.is_swept(&revision.name())?;
            put_stack(publisher, &mut manifest, mapped, gone)?;
            note_purge(&mut manifest, &paths);
        }
        let after = publisher.rewrite(revision, parent, manifest)?;
        steps.push((revision, Some(after)));
    }
    Ok(steps)
}

fn is_touched(manifest: &Manifest, mapped: &BTreeMap<Digest, ObjectRef>) -> bool {
    let mut layers = manifest.layers.iter().chain(&manifest.borrowed);
    layers.any(|layer| mapped.contains_key(&layer.digest))
}

/// The stack with the new layers, and its merged index. A boot pack may hold purged pages, so it is
/// dropped.
fn put_stack(
    publisher: &Publisher,
    manifest: &mut Manifest,
    mapped: &BTreeMap<Digest, ObjectRef>,
    gone: bool,
) -> Result<()> {
    for layer in &mut manifest.layers {
        if let Some(new) = mapped.get(&layer.digest) {
            *layer = *new;
        }
    }
    match publisher.restack(manifest) {
        // A swept revision has no index, and nobody can read one.
        Err(HistoryError::Store(StoreError::Missing(_))) if gone => {
            let stack: BTreeSet<Digest> =
                manifest.layers.iter().map(|layer| layer.digest).collect();
            for layer in &mut manifest.borrowed {
                if let Some(new) = mapped.get(&layer.digest) {
                    *layer = *new;
                }
            }
            manifest
                .borrowed
                .retain(|layer| !stack.contains(&layer.digest));
            manifest.borrowed.sort();
            manifest.borrowed.dedup();
            Ok(())
        }
        done => done,
    }
}

/// The message records the purge. The server's lines about a push stay the last paragraph.
fn note_purge(manifest: &mut Manifest, paths: &[String]) {
    let note = format!("\n\npurged: {}", paths.join(" "));
    if manifest.message.len() + note.len() > wire::manifest::MESSAGE_LEN_MAX {
        return;
    }
    let trailer = manifest.trailer().is_some();
    let at = manifest.message.rfind("\n\n").filter(|_| trailer);
    let at = at.unwrap_or(manifest.message.len());
    manifest.message.insert_str(at, &note);
}

/// A path for people.
fn shown(path: &[u8]) -> String {
    format!("/{}", path.escape_ascii())
}
