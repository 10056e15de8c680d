//! Makes a boot pack from the traces of a revision, and publishes the revision with it.

use std::path::{Path, PathBuf};

use layerfmt::layout::chunk::ChunkFile;
use layerfmt::{Digest, Index};
use wire::manifest::{Action, Manifest, ObjectRef, ProfileName, RevisionName};
use wire::trace::{BootTrace, PAGE_LEN, TRACE_LEN_MAX, TraceError};

use super::predicted::{paths_of_others, predicted_pages};
use super::{Draft, DraftIndex, Plain, Publisher, Uploads};
use crate::history::{History, HistoryError, Revision};
pub use crate::pack::PageOrigin;
use crate::pack::{MergedTraces, PackError, Packed, build, merge, page_origin, translate};
use crate::store::{Key, StoreError};
use crate::traces;

/// Traces read, newest revisions first.
const TRACES_MAX: usize = 64;
/// A pack with this share of the hot pages is kept.
const COVERED_PERCENT: u64 = 95;

/// Sources of traces and the rules for using them.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The spool that `bakery serve` puts traces into.
    pub spool: Option<PathBuf>,
    /// Additional files with traces of the newest revision.
    pub files: Vec<PathBuf>,
    /// Smallest share of the boots that must have read a page, per cent.
    pub share: u32,
    /// Without any trace, predict the pages from the tree.
    pub predict: bool,
}

/// The result of making a pack.
#[derive(Debug, serde::Serialize)]
pub struct PackReport {
    /// Number of traces used.
    pub traces: usize,
    /// Traces that fit no revision.
    pub refused: usize,
    /// The origin of the pages.
    pub origin: PageOrigin,
    /// Number of hot pages.
    pub pages: usize,
    /// Of these, percent that the pack of the newest revision has already.
    pub covered: u64,
    /// The new pack, if one was built.
    pub pack: Option<ObjectRef>,
    /// Raw bytes in it.
    pub hot_len: u64,
    /// The new revision, if one was published.
    pub revision: Option<u64>,
}

/// The reason why no boot pack was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishPackError {
    /// No pack could be made.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The history cannot be read or continued.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of a trace cannot be read.
    #[error("cannot read the trace {}", path.display())]
    Trace {
        /// The affected file.
        path: PathBuf,
        /// The underlying error.
        source: std::io::Error,
    },
    /// A file is not a trace.
    #[error(transparent)]
    Decode(#[from] TraceError),
}

/// Builds the boot pack of the newest revision of `name` from `sources` and publishes the revision
/// again with it; keeps a sufficient pack, unless `force`.
///
/// # Errors
/// There is no trace, or the store fails.
pub fn publish(
    publisher: &Publisher,
    name: &ProfileName,
    sources: &Sources,
    force: bool,
) -> Result<PackReport, PublishPackError> {
    let history = publisher.history();
    let head = history.require_head(name)?;
    let plain = history.merged(&head.manifest)?;
    let traces = collect(history, name, &head.manifest, &plain.index, sources)?;
    let tree = head.manifest.tree_digest;
    let mut hot = merge(&traces, tree, &plain.index, sources.share);
    let mut origin = PageOrigin::Traces;
    if hot.pages.is_empty() && sources.predict {
        origin = PageOrigin::Predicted;
        let others = paths_of_others(history, sources.spool.as_deref(), name);
        let layers = history.layers(&head.manifest)?;
        hot.pages = predicted_pages(&plain.index, &layers, tree, &others).pages;
    }
    if hot.pages.is_empty() {
        return Err(PackError::Nothing.into());
    }
    let covered = covered(history, &head.manifest, &hot, origin)?;
    let mut report = PackReport {
        traces: hot.traces,
        refused: hot.refused,
        origin,
        pages: hot.pages.len(),
        covered,
        pack: head.manifest.pack,
        hot_len: 0,
        revision: None,
    };
    if covered >= COVERED_PERCENT && !force {
        return Ok(report);
    }
    let staging = publisher.store().staging()?;
    let path = staging.path().join("pack.layer");
    let packed = build(
        &plain,
        &history.layers(&head.manifest)?,
        &hot,
        origin,
        &path,
    )?;
    let pack = ObjectRef {
        digest: packed.pack.digest,
        len: packed.pack.file_len,
    };
    (report.pack, report.hot_len) = (Some(pack), packed.hot_len);
    let revision = republish(publisher, name, &head, &packed, pack, &path, &report)?;
    report.revision = Some(revision.number());
    Ok(report)
}

fn republish(
    publisher: &Publisher,
    name: &ProfileName,
    built_on: &Revision,
    packed: &Packed,
    pack: ObjectRef,
    path: &Path,
    report: &PackReport,
) -> crate::history::Result<Revision> {
    let mut uploads = Uploads::default();
    uploads.add(Key::pack(&pack.digest), path);
    let origin = match report.origin {
        PageOrigin::Traces => format!("boot pack of {} boots", report.traces),
        PageOrigin::Predicted => "predicted boot pack".to_owned(),
    };
    let message = format!("{origin}: {} pages, {} bytes", report.pages, pack.len);
    publisher.publish(name, uploads, |head, _| {
        let head = head.filter(|head| head.manifest.tree_digest == built_on.manifest.tree_digest);
        // Another process published another tree meanwhile: this pack is for the old one.
        let head = head.ok_or_else(|| {
            HistoryError::Refused(String::from(
                "the system changed while its pack was built: run it again",
            ))
        })?;
        let plain = Plain::Same {
            index: head.manifest.plain.unwrap_or(head.manifest.index),
            borrowed: head.manifest.borrowed.clone(),
        };
        let mut draft = Draft::like(&head.manifest, Action::Pack, "bakery pack", &message);
        draft.merged = DraftIndex::New(Box::new(packed.index.clone()));
        (draft.pack, draft.plain) = (Some(pack), Some(plain));
        Ok(draft)
    })
}

/// The traces of the newest revision, and those of older ones translated to its numbers.
fn collect(
    history: &History,
    name: &ProfileName,
    manifest: &Manifest,
    index: &Index,
    sources: &Sources,
) -> Result<Vec<BootTrace>, PublishPackError> {
    let mut traces = Vec::new();
    for file in &sources.files {
        let bytes = std::fs::read(file).map_err(|source| PublishPackError::Trace {
            path: file.clone(),
            source,
        })?;
        traces.push(BootTrace::decode(&bytes)?);
    }
    let Some(spool) = &sources.spool else {
        return Ok(traces);
    };
    let root = traces::of_history(spool, &name.system, &name.profile);
    let mut revisions: Vec<u64> = traces::names(&root)
        .iter()
        .filter_map(|revision| revision.parse().ok())
        .collect();
    revisions.sort_unstable_by(|a, b| b.cmp(a));
    for revision in revisions {
        let directory = root.join(revision.to_string());
        let mut old = None;
        for file in traces::names(&directory) {
            if traces.len() >= TRACES_MAX {
                return Ok(traces);
            }
            let path = directory.join(file);
            let large =
                std::fs::metadata(&path).is_ok_and(|meta| meta.len() > TRACE_LEN_MAX as u64);
            // Anybody can send files, and boot reports are here too: invalid traces are skipped.
            let Ok(bytes) = std::fs::read(&path) else {
                continue;
            };
            let Some(trace) = BootTrace::decode(&bytes).ok().filter(|_| !large) else {
                continue;
            };
            if trace.tree == manifest.tree_digest {
                traces.push(trace);
                continue;
            }
            if old.is_none() {
                let wanted = RevisionName {
                    name: name.clone(),
                    revision: Some(revision),
                };
                old = history
                    .revision(&wanted)
                    .and_then(|revision| history.merged(&revision.manifest))
                    .ok();
            }
            if let Some(old) = &old {
                traces.push(translate(&trace, &old.index, index, manifest.tree_digest));
            }
        }
    }
    Ok(traces)
}

/// True if the revision has a pack of pages that boots read.
///
/// # Errors
/// The pack cannot be read.
pub(crate) fn has_pack_of_boots(
    history: &History,
    manifest: &Manifest,
) -> Result<bool, PublishPackError> {
    let Some(pack) = &manifest.pack else {
        return Ok(false);
    };
    let store = history.store();
    let pack = store.open_layer(&Key::pack(&pack.digest), &pack.digest)?;
    let origin = page_origin(&pack).map_err(PackError::from)?;
    Ok(origin == PageOrigin::Traces)
}

/// Percent of the hot pages that the revision's own pack has; 0 for pages of traces if that pack is
/// predicted, so that the first trace replaces it.
fn covered(
    history: &History,
    manifest: &Manifest,
    hot: &MergedTraces,
    origin: PageOrigin,
) -> Result<u64, PublishPackError> {
    let Some(pack) = &manifest.pack else {
        return Ok(0);
    };
    let store = history.store();
    let had = store.open_layer(&Key::pack(&pack.digest), &pack.digest)?;
    match (page_origin(&had).map_err(PackError::from)?, origin) {
        (PageOrigin::Predicted, PageOrigin::Traces) => return Ok(0),
        // A prediction is no reason to replace a pack of boots.
        (PageOrigin::Traces, PageOrigin::Predicted) => return Ok(100),
        _ => {}
    }
    let layer = store.open_layer(&Key::index(&manifest.index.digest), &manifest.index.digest)?;
    let (index, digest): (_, Digest) = (layer.index(), pack.digest);
    let packed = hot.pages.iter().filter(|(ino, page)| {
        let start = u64::from(*page) * PAGE_LEN;
        index.extents(*ino, start..start + PAGE_LEN).all(|extent| {
            let source = index.chunk(extent.chunk).map(|chunk| chunk.source);
            matches!(source, Some(ChunkFile::Borrowed(row)) if index.layer(row).is_some_and(|l| l.digest == digest))
        })
    });
    Ok(packed.count() as u64 * 100 / hot.pages.len().max(1) as u64)
}
