//! Boot packs of predicted pages, for revisions that no machine has booted.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use layerfmt::source::LayerSet;
use layerfmt::{Digest, DirentTarget, Index, Ino, MergedIndex};
use wire::manifest::{ProfileName, RevisionName};
use wire::trace::{BootTrace, PAGE_LEN, TRACE_LEN_MAX};

use crate::history::History;
use crate::limits::{PREDICT_LEN_MIN, PREDICT_OTHERS_MAX};
use crate::pack::{MergedTraces, PackError, Packed, PageOrigin, build, merge};
use crate::predict::predict;
use crate::traces;

/// The pages that the first boot of a tree is expected to read; none if they are too few for a
/// pack. `others` are paths that boots of other systems read.
pub(super) fn predicted_pages(
    index: &Index,
    layers: &LayerSet,
    tree: Digest,
    others: &[String],
) -> MergedTraces {
    let trace = predict(index, layers, tree, others);
    let hot = merge(&[trace], tree, index, 1);
    match hot.pages.len() as u64 * PAGE_LEN < PREDICT_LEN_MIN {
        true => MergedTraces::default(),
        false => hot,
    }
}

/// The predicted pack of a tree, in a file at `path`; `None` if the tree needs none.
///
/// # Errors
/// A layer cannot be read, or the pack cannot be written.
pub(super) fn predicted_pack(
    merged: &MergedIndex,
    layers: &LayerSet,
    others: &[String],
    path: &Path,
) -> Result<Option<Packed>, PackError> {
    let Some(tree) = merged.tree_digest() else {
        return Ok(None);
    };
    let hot = predicted_pages(&merged.index, layers, tree, others);
    if hot.pages.is_empty() {
        return Ok(None);
    }
    build(merged, layers, &hot, PageOrigin::Predicted, path).map(Some)
}

/// The paths that boots of other histories of the store read, as the traces in the spool show: at
/// most [`PREDICT_OTHERS_MAX`] histories, the newest trace of each. What cannot be read is skipped.
pub(super) fn paths_of_others(
    history: &History,
    spool: Option<&Path>,
    name: &ProfileName,
) -> Vec<String> {
    let Some(spool) = spool else {
        return Vec::new();
    };
    let others = traces::histories(spool)
        .into_iter()
        .filter(|other| other != name);
    let mut seen = HashSet::new();
    let mut paths = Vec::new();
    for other in others.take(PREDICT_OTHERS_MAX) {
        let found = newest_trace(history, spool, &other).unwrap_or_default();
        paths.extend(found.into_iter().filter(|path| seen.insert(path.clone())));
    }
    paths
}

/// The paths of the newest readable trace of a history.
fn newest_trace(history: &History, spool: &Path, name: &ProfileName) -> Option<Vec<String>> {
    let root = traces::of_history(spool, &name.system, &name.profile);
    let (_, revision, file) = traces::newest(&root)?;
    let is_large = std::fs::metadata(&file).ok()?.len() > TRACE_LEN_MAX as u64;
    let bytes = (!is_large).then(|| std::fs::read(&file).ok()).flatten()?;
    let trace = BootTrace::decode(&bytes).ok()?;
    let wanted = RevisionName {
        name: name.clone(),
        revision: Some(revision),
    };
    let revision = history.revision(&wanted).ok()?;
    (revision.manifest.tree_digest == trace.tree).then_some(())?;
    let merged = history.merged(&revision.manifest).ok()?;
    Some(paths(&merged.index, &trace))
}

/// The paths of the files of a trace, in its order.
fn paths(index: &Index, trace: &BootTrace) -> Vec<String> {
    let wanted: HashSet<Ino> = trace.touches.iter().map(|touch| touch.ino).collect();
    let mut directories: HashMap<Ino, String> = HashMap::from([(layerfmt::ROOT, String::new())]);
    let mut files: HashMap<Ino, String> = HashMap::new();
    // Directories are numbered before their contents.
    for dir in 0..index.inode_count() {
        let Some(path) = directories.remove(&dir) else {
            continue;
        };
        for entry in index.entries(dir, 0) {
            let DirentTarget::Inode(child) = entry.child else {
                continue;
            };
            let (Some(inode), Ok(name)) = (index.inode(child), std::str::from_utf8(entry.name))
            else {
                continue;
            };
            if inode.is_dir() {
                directories.insert(child, format!("{path}/{name}"));
            } else if wanted.contains(&child) {
                files
                    .entry(child)
                    .or_insert_with(|| format!("{path}/{name}"));
            }
        }
    }
    let mut seen = HashSet::new();
    let inos = trace.touches.iter().map(|touch| touch.ino);
    inos.filter(|ino| seen.insert(*ino))
        .filter_map(|ino| files.get(&ino).cloned())
        .collect()
}
