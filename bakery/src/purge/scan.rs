//! Finds the layers with the paths, and the layers based on them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use layerfmt::{ChunkFile, Digest, DirentTarget, Index, Ino, Layer, ROOT};
use wire::manifest::Manifest;

use super::{Lineage, PurgeRequest};
use crate::history::{History, HistoryError, Result};
use crate::store::{Key, StoreError};

/// The layers of a store, seen with the paths to purge.
pub(super) struct Scan {
    /// Every layer that a revision names and that is there.
    pub(super) layers: BTreeMap<Digest, Occurrences>,
    /// Those that have one of the paths.
    pub(super) hits: BTreeSet<Digest>,
    /// Layers to rewrite: the hits, and those that borrow from them.
    pub(super) rewritten: BTreeSet<Digest>,
    /// The contents to purge: digest and length.
    pub(super) contents: HashSet<(Digest, u64)>,
    /// The chunks with their contents. A compaction copies chunks unchanged, including contents
    /// that no path shows.
    chunks: HashSet<Digest>,
    /// Layers that no revision names and that have one of the paths or chunks.
    pub(super) strays: Vec<Key>,
}

/// A layer and its findings.
pub(super) struct Occurrences {
    pub(super) layer: Arc<Layer>,
    /// The layers of its original base, lowest first.
    pub(super) below: Vec<Digest>,
}

impl Scan {
    pub(super) fn of(history: &History, lines: &[Lineage], request: &PurgeRequest) -> Result<Scan> {
        let mut scan = Scan {
            layers: BTreeMap::new(),
            hits: BTreeSet::new(),
            rewritten: BTreeSet::new(),
            contents: HashSet::new(),
            chunks: HashSet::new(),
            strays: Vec::new(),
        };
        for line in lines {
            let wanted = request
                .system
                .as_ref()
                .is_none_or(|system| *system == line.name.system);
            for revision in &line.revisions {
                scan.take(history, &revision.manifest, wanted, request)?;
            }
        }
        scan.spread();
        scan.strays(history, request)?;
        Ok(scan)
    }

    /// True if a revision uses a layer that is rewritten.
    pub(super) fn touches(&self, manifest: &Manifest) -> bool {
        let mut layers = manifest.layers.iter().chain(&manifest.borrowed);
        layers.any(|layer| self.rewritten.contains(&layer.digest))
    }

    fn take(
        &mut self,
        history: &History,
        manifest: &Manifest,
        wanted: bool,
        request: &PurgeRequest,
    ) -> Result<()> {
        let mut below = Vec::new();
        let stack = manifest.layers.iter().map(|layer| (layer, true));
        let borrowed = manifest.borrowed.iter().map(|layer| (layer, false));
        for (reference, in_stack) in stack.chain(borrowed) {
            let digest = reference.digest;
            if let Entry::Vacant(vacant) = self.layers.entry(digest) {
                let layer = match history.layer(&digest) {
                    // Swept: there is no data to purge.
                    Err(HistoryError::Store(StoreError::Missing(_))) => continue,
                    layer => layer?,
                };
                let found = Occurrences {
                    layer,
                    below: if in_stack { below.clone() } else { Vec::new() },
                };
                vacant.insert(found);
            }
            if wanted && !self.hits.contains(&digest) {
                self.look(&digest, request)?;
            }
            if in_stack {
                below.push(digest);
            }
        }
        Ok(())
    }

    fn look(&mut self, digest: &Digest, request: &PurgeRequest) -> Result<()> {
        let Some(found) = self.layers.get(digest) else {
            return Ok(());
        };
        let index = found.layer.index();
        let named: Vec<Ino> = request
            .paths
            .iter()
            .filter_map(|path| at(index, path))
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let content = found.layer.content()?;
        for (_, ino) in named.into_iter().flat_map(|ino| below(index, ino)) {
            let chunks = index.extents(ino, 0..u64::MAX);
            let chunks = chunks.filter_map(|extent| index.chunk(extent.chunk));
            self.chunks.extend(chunks.map(|chunk| chunk.digest));
            let file = index
                .inode(ino)
                .filter(|inode| inode.is_file() && inode.size > 0);
            if let (Some(inode), Some(content)) = (file, &content) {
                self.contents.insert((content.file(ino), inode.size));
            }
        }
        self.hits.insert(*digest);
        Ok(())
    }

    /// True if a layer stores a chunk with purged data.
    fn holds_chunk(&self, index: &Index) -> bool {
        let mut own = index
            .chunks()
            .filter(|chunk| chunk.source == ChunkFile::Own);
        own.any(|chunk| self.chunks.contains(&chunk.digest))
    }

    /// Adds layers that store one of the chunks, and layers that borrow from a rewritten layer,
    /// because they name it.
    fn spread(&mut self) {
        self.rewritten.clone_from(&self.hits);
        let tainted = self
            .layers
            .iter()
            .filter(|(_, found)| self.holds_chunk(found.layer.index()));
        let tainted: Vec<Digest> = tainted.map(|(digest, _)| *digest).collect();
        self.rewritten.extend(tainted);
        loop {
            let more: Vec<Digest> = self
                .layers
                .iter()
                .filter(|(digest, found)| {
                    let mut lenders = found.layer.index().layers();
                    !self.rewritten.contains(*digest)
                        && lenders.any(|lender| self.rewritten.contains(&lender.digest))
                })
                .map(|(digest, _)| *digest)
                .collect();
            if more.is_empty() {
                return;
            }
            self.rewritten.extend(more);
        }
    }

    fn strays(&mut self, history: &History, request: &PurgeRequest) -> Result<()> {
        for entry in history
            .store()
            .list(wire::paths::Class::Layer.directory())?
        {
            let Some(digest) = entry.key.digest() else {
                continue;
            };
            if self.layers.contains_key(&digest) {
                continue;
            }
            // Unreadable objects are a matter of `gc` and `verify`.
            let Ok(layer) = history.layer(&digest) else {
                continue;
            };
            let index = layer.index();
            let named = request.paths.iter().any(|path| at(index, path).is_some());
            if named || self.holds_chunk(index) {
                self.strays.push(entry.key);
            }
        }
        Ok(())
    }
}

/// The object that a layer itself has at a path; no link is followed.
pub(super) fn at(index: &Index, path: &[u8]) -> Option<Ino> {
    let mut ino = ROOT;
    for name in path.split(|byte| *byte == b'/') {
        match index.lookup(ino, name)?.child {
            DirentTarget::Inode(child) => ino = child,
            DirentTarget::Whiteout => return None,
        }
    }
    Some(ino)
}

/// An object and all that is below it, with paths relative to it.
pub(super) fn below(index: &Index, ino: Ino) -> Vec<(Vec<u8>, Ino)> {
    let mut found = vec![(Vec::new(), ino)];
    let mut next = 0;
    // Directories have one parent each, so the list ends.
    while let Some((path, dir)) = found.get(next).cloned() {
        next += 1;
        for entry in index.entries(dir, 0) {
            if let DirentTarget::Inode(child) = entry.child {
                let path = [&path[..], entry.name].join(&b"/"[..]);
                let path = path.strip_prefix(b"/").map(<[u8]>::to_vec).unwrap_or(path);
                found.push((path, child));
            }
        }
    }
    found
}
