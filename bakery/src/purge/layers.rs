//! Rewrites layers without the purged paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use layerfmt::source::OwnAndBelow;
use layerfmt::tree::{Child, Kind, Name, NodeId, ROOT, from_index};
use layerfmt::{Base, Content, ContentReader, Digest, Layer, LayerSet, LayerWriter, Options, Tree};
use wire::manifest::ObjectRef;

use super::scan::{Occurrences, Scan, below};
use super::{Lineage, PurgeRequest, shown};
use crate::history::{History, HistoryError, Result, reference};
use crate::store::{Key, StoreError};

/// The rewritten layers, in the store.
pub(super) struct Rewriting {
    /// The replacement of each layer.
    pub(super) mapped: BTreeMap<Digest, ObjectRef>,
}

impl Rewriting {
    /// Rewrites the layers; a layer comes after those from which it borrows.
    pub(super) fn of(history: &History, scan: &Scan, request: &PurgeRequest) -> Result<Rewriting> {
        let mut rewriting = Rewriting {
            mapped: BTreeMap::new(),
        };
        let staging = history.store().staging()?;
        let mut left: Vec<Digest> = scan.rewritten.iter().copied().collect();
        while !left.is_empty() {
            let before = left.len();
            let mut later = Vec::new();
            for digest in left {
                let Some(found) = scan.layers.get(&digest) else {
                    continue;
                };
                if !rewriting.is_ready(scan, found) {
                    later.push(digest);
                    continue;
                }
                let path = staging.path().join(format!("{digest}.layer"));
                let new = rewriting.write(history, scan, found, request, &path)?;
                history.store().put_file(&Key::layer(&new.digest), &path)?;
                rewriting.mapped.insert(digest, new);
            }
            if later.len() == before {
                let what =
                    "layers borrow from each other in a circle: `bakery verify --all` names them";
                return Err(HistoryError::Refused(what.into()));
            }
            left = later;
        }
        Ok(rewriting)
    }

    /// True if all layers from which a layer may borrow exist in their new form.
    fn is_ready(&self, scan: &Scan, found: &Occurrences) -> bool {
        let lenders = found.layer.index().layers().map(|lender| lender.digest);
        let mut needed = lenders.chain(found.below.iter().copied());
        needed.all(|digest| !scan.rewritten.contains(&digest) || self.mapped.contains_key(&digest))
    }

    fn write(
        &self,
        history: &History,
        scan: &Scan,
        found: &Occurrences,
        request: &PurgeRequest,
        path: &Path,
    ) -> Result<ObjectRef> {
        let (old, index) = (&found.layer, found.layer.index());
        let lenders = index
            .layers()
            .filter_map(|lender| scan.layers.get(&lender.digest));
        let lenders = LayerSet::new(lenders.map(|lender| lender.layer.clone()));
        let source = OwnAndBelow::new(old.clone(), lenders);
        let base = self.base(history, &found.below)?;
        let mut writer = LayerWriter::create(path, Options::bake(), base)?;
        let mut tree = from_index::tree(index, |_, inode| {
            Content::new(inode.size, Digest::default(), &[])
        })?;
        for path in &request.paths {
            remove(&mut tree, path);
        }
        let mut reader = ContentReader::new(index, &source);
        for id in reached(&tree) {
            let Some(inode) = index.inode(id).filter(|inode| inode.is_file()) else {
                continue;
            };
            // No chunk is copied unchanged: chunks hold several files, including the purged one.
            let mut stream = reader.stream(id);
            let segments = stream.segments();
            let content = writer.add_file(inode.size, &segments, &mut stream)?;
            if let Some(node) = tree.node_mut(id) {
                node.kind = Kind::File(content);
            }
        }
        let mut meta = old.meta()?.unwrap_or_default();
        for digest in &mut meta.base {
            *digest = self.renamed(digest);
        }
        // Two layers with only purged contents remain two layers.
        let label = ("purged-from".to_owned(), old.digest().to_string());
        meta.labels.push(label);
        writer.finish(tree, &meta)?;
        Ok(reference(&Layer::map(path)?))
    }

    fn renamed(&self, digest: &Digest) -> Digest {
        self.mapped.get(digest).map_or(*digest, |new| new.digest)
    }

    /// The original base stack of a layer, in its new form: its contents need not be stored again.
    /// `None` if it was swept.
    fn base(&self, history: &History, below: &[Digest]) -> Result<Option<Base>> {
        if below.is_empty() {
            return Ok(None);
        }
        let stack = below.iter().map(|digest| ObjectRef {
            digest: self.renamed(digest),
            len: 0,
        });
        match history.flatten(&stack.collect::<Vec<_>>()) {
            Ok(merged) => Ok(Some(Base::new(&merged)?)),
            Err(HistoryError::Store(StoreError::Missing(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Other paths with the purged contents.
    pub(super) fn elsewhere(
        &self,
        history: &History,
        lines: &[Lineage],
        scan: &Scan,
    ) -> Result<Vec<String>> {
        let (mut seen, mut copies) = (BTreeSet::new(), Vec::new());
        for revision in lines.iter().flat_map(|line| &line.revisions) {
            for reference in &revision.manifest.layers {
                let digest = self.renamed(&reference.digest);
                if !seen.insert(digest) {
                    continue;
                }
                let layer = match history.layer(&digest) {
                    Err(HistoryError::Store(StoreError::Missing(_))) => continue,
                    layer => layer?,
                };
                let Some(content) = layer.content()? else {
                    continue;
                };
                for (path, ino) in below(layer.index(), ROOT) {
                    let size = layer.index().inode(ino).map_or(0, |inode| inode.size);
                    if scan.contents.contains(&(content.file(ino), size)) {
                        copies.push(format!("{}:{}", revision.name(), shown(&path)));
                    }
                }
            }
        }
        Ok(copies)
    }
}

/// Removes a path from a tree of changes; a whiteout of that name stays.
fn remove(tree: &mut Tree<Content>, path: &[u8]) {
    let cut = path.iter().rposition(|byte| *byte == b'/');
    let (parent, name) = match cut {
        Some(cut) => (
            path.get(..cut).unwrap_or_default(),
            path.get(cut + 1..).unwrap_or_default(),
        ),
        None => (&[][..], path),
    };
    let parent = match parent {
        [] => Some(ROOT),
        parent => tree.resolve(parent),
    };
    let (Some(parent), Ok(name)) = (parent, Name::new(name)) else {
        return;
    };
    if let Some(directory) = tree.directory_mut(parent)
        && matches!(directory.entries.get(&name), Some(Child::Node(_)))
    {
        directory.entries.remove(&name);
    }
}

/// The nodes that have a name, each once.
fn reached(tree: &Tree<Content>) -> BTreeSet<NodeId> {
    let (mut reached, mut open) = (BTreeSet::from([ROOT]), vec![ROOT]);
    while let Some(directory) = open.pop() {
        for (_, child) in tree.entries(directory) {
            if let Child::Node(id) = child
                && reached.insert(*id)
            {
                open.push(*id);
            }
        }
    }
    reached
}
