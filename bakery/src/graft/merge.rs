//! The three-way rule, applied in place to the layer's own tree of changes.

use layerfmt::tree::{Child, Kind, Metadata, Name, Node, NodeId, ROOT, Tree};

use super::wording::change;
use super::{FileId, Resolution};
use crate::history::{Conflict, Result};

/// The result of a merge.
#[derive(Debug, Default)]
pub(super) struct MergeOutcome {
    /// Paths that both sides changed without a decision.
    pub conflicts: Vec<Conflict>,
    /// True if the changes differ from the layer's.
    pub changed: bool,
}

/// Removes entries of `delta` that must not be applied to `ours`.
pub(super) fn merge(
    base: Option<&Tree<FileId>>,
    ours: &Tree<FileId>,
    delta: &mut Tree<FileId>,
    resolution: Resolution,
) -> Result<MergeOutcome> {
    let mut merge = ThreeWayMerge {
        base,
        ours,
        delta,
        resolution,
        path: Vec::new(),
        outcome: MergeOutcome::default(),
    };
    let at = At {
        delta: ROOT,
        base: base.map(|_| ROOT),
        ours: ROOT,
    };
    merge.metadata(at);
    merge.directory(at)?;
    Ok(merge.outcome)
}

/// One directory in the three trees.
#[derive(Clone, Copy)]
struct At {
    delta: NodeId,
    base: Option<NodeId>,
    ours: NodeId,
}

struct ThreeWayMerge<'m> {
    base: Option<&'m Tree<FileId>>,
    ours: &'m Tree<FileId>,
    delta: &'m mut Tree<FileId>,
    resolution: Resolution,
    path: Vec<u8>,
    outcome: MergeOutcome,
}

impl ThreeWayMerge<'_> {
    fn directory(&mut self, at: At) -> Result<()> {
        self.open_opaque(at)?;
        let entries: Vec<(Name, Child)> = self
            .delta
            .entries(at.delta)
            .map(|(name, child)| (name.clone(), *child))
            .collect();
        for (name, child) in entries {
            let path_len = self.path.len();
            if path_len > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            match child {
                Child::Whiteout => self.whiteout(at, &name),
                Child::Node(id) => self.node(at, &name, id)?,
            }
            self.path.truncate(path_len);
        }
        Ok(())
    }

    /// Replaces an opaque directory over one of the base by whiteouts for its hidden names, because
    /// the target may have added names that the layer does not know.
    fn open_opaque(&mut self, at: At) -> Result<()> {
        if !self
            .delta
            .directory(at.delta)
            .is_some_and(|directory| directory.opaque)
        {
            return Ok(());
        }
        self.outcome.changed = true;
        if let Some(directory) = self.delta.directory_mut(at.delta) {
            directory.opaque = false;
        }
        let (Some(base), Some(base_dir)) = (self.base, at.base) else {
            return Ok(());
        };
        for (name, _) in base.entries(base_dir) {
            match self.delta.child(at.delta, name.as_bytes()) {
                None => self.delta.set(at.delta, name.clone(), Child::Whiteout)?,
                Some(Child::Node(id)) => {
                    // Below an opaque directory every directory is complete as well.
                    if let Some(directory) = self.delta.directory_mut(id) {
                        directory.opaque = true;
                    }
                }
                Some(Child::Whiteout) => {}
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, at: At, name: &Name) {
        let (base, ours) = (self.base_child(at, name), self.ours_child(at, name));
        match (base, ours) {
            // There was no object to delete, or it is deleted already.
            (None, _) | (_, None) => self.drop_entry(at, name),
            (Some(base_id), Some(ours_id)) => {
                if self.same_below(base_id, ours_id) {
                    return;
                }
                let ours = change(self.base_node(Some(base_id)), self.ours.node(ours_id));
                let theirs = change(self.base_node(Some(base_id)), None);
                self.conflict(at, name, ours, theirs);
            }
        }
    }

    fn node(&mut self, at: At, name: &Name, id: NodeId) -> Result<()> {
        let (base, ours) = (self.base_child(at, name), self.ours_child(at, name));
        let is_dir = |node: Option<&Node<FileId>>| node.is_some_and(|node| node.kind.is_dir());
        let theirs_dir = is_dir(self.delta.node(id));
        let base_dir = base.filter(|_| is_dir(self.base_node(base)));
        let ours_dir = ours.filter(|ours| is_dir(self.ours.node(*ours)));
        if theirs_dir
            && let Some(ours) = ours_dir
            && (base_dir.is_some() || base.is_none())
        {
            let below = At {
                delta: id,
                base: base_dir,
                ours,
            };
            self.metadata(below);
            return self.directory(below);
        }
        let untouched = match (base, ours) {
            (None, None) => true,
            (Some(base), Some(ours)) => self.same_below(base, ours),
            _ => false,
        };
        if untouched {
            return Ok(());
        }
        let (base_node, theirs) = (self.base_node(base), self.delta.node(id));
        let ours_node = ours.and_then(|ours| self.ours.node(ours));
        let no_change = !theirs_dir && same_node(base_node, theirs);
        let settled = !theirs_dir && same_node(ours_node, theirs);
        if no_change || settled {
            self.drop_entry(at, name);
            return Ok(());
        }
        let (ours, theirs) = (change(base_node, ours_node), change(base_node, theirs));
        self.conflict(at, name, ours, theirs);
        Ok(())
    }

    /// Merges attribute by attribute; of two times, the later one wins.
    fn metadata(&mut self, at: At) {
        let Some(theirs) = self.delta.node(at.delta).map(|node| node.meta.clone()) else {
            return;
        };
        let Some(ours) = self.ours.node(at.ours).map(|node| node.meta.clone()) else {
            return;
        };
        let base = self.base_node(at.base).map(|node| node.meta.clone());
        let mut clash = false;
        let mut merged = Metadata {
            mtime: ours.mtime.max(theirs.mtime),
            ..ours.clone()
        };
        let base = base.as_ref();
        let keep_ours = self.resolution == Resolution::Ours;
        let mut pick = |base_ours: Option<bool>, base_theirs: Option<bool>, alike: bool| match (
            base_ours,
            base_theirs,
        ) {
            _ if alike => false,
            (_, Some(true)) => false,
            (Some(true), _) => true,
            _ => {
                clash = true;
                !keep_ours
            }
        };
        let owner = |meta: &Metadata| (meta.uid, meta.gid);
        if pick(
            base.map(|base| base.mode == ours.mode),
            base.map(|base| base.mode == theirs.mode),
            ours.mode == theirs.mode,
        ) {
            merged.mode = theirs.mode;
        }
        if pick(
            base.map(|base| owner(base) == owner(&ours)),
            base.map(|base| owner(base) == owner(&theirs)),
            owner(&ours) == owner(&theirs),
        ) {
            (merged.uid, merged.gid) = owner(&theirs);
        }
        if pick(
            base.map(|base| base.xattrs == ours.xattrs),
            base.map(|base| base.xattrs == theirs.xattrs),
            ours.xattrs == theirs.xattrs,
        ) {
            merged.xattrs.clone_from(&theirs.xattrs);
        }
        if clash && self.resolution == Resolution::Refuse {
            let (base, theirs) = (self.base_node(at.base), self.delta.node(at.delta));
            let (ours, theirs) = (change(base, self.ours.node(at.ours)), change(base, theirs));
            self.outcome
                .conflicts
                .push(Conflict::new(&self.path, ours, theirs));
        }
        self.outcome.changed |= merged != theirs;
        if let Some(node) = self.delta.node_mut(at.delta) {
            node.meta = merged;
        }
    }

    fn conflict(&mut self, at: At, name: &Name, ours: String, theirs: String) {
        match self.resolution {
            Resolution::Ours => self.drop_entry(at, name),
            Resolution::Theirs | Resolution::Force => {}
            Resolution::Refuse => {
                self.outcome
                    .conflicts
                    .push(Conflict::new(&self.path, ours, theirs));
            }
        }
    }

    fn drop_entry(&mut self, at: At, name: &Name) {
        self.outcome.changed = true;
        if let Some(directory) = self.delta.directory_mut(at.delta) {
            directory.entries.remove(name);
        }
    }

    fn base_child(&self, at: At, name: &Name) -> Option<NodeId> {
        object(self.base?.child(at.base?, name.as_bytes()))
    }

    fn ours_child(&self, at: At, name: &Name) -> Option<NodeId> {
        object(self.ours.child(at.ours, name.as_bytes()))
    }

    fn base_node(&self, id: Option<NodeId>) -> Option<&Node<FileId>> {
        self.base?.node(id?)
    }

    /// True if the target did not change an object of the base or anything below it.
    fn same_below(&self, base: NodeId, ours: NodeId) -> bool {
        let Some(tree) = self.base else { return false };
        // Both trees are finite and every directory has one parent, so the list ends.
        let mut pairs = vec![(base, ours)];
        while let Some((base, ours)) = pairs.pop() {
            if !same_node(tree.node(base), self.ours.node(ours)) {
                return false;
            }
            let (mut left, mut right) = (tree.entries(base), self.ours.entries(ours));
            loop {
                match (left.next(), right.next()) {
                    (None, None) => break,
                    (Some((name, Child::Node(base))), Some((other, Child::Node(ours))))
                        if name == other =>
                    {
                        pairs.push((*base, *ours));
                    }
                    _ => return false,
                }
            }
        }
        true
    }
}

fn object(child: Option<Child>) -> Option<NodeId> {
    match child? {
        Child::Node(id) => Some(id),
        Child::Whiteout => None,
    }
}

/// Equal except for the time, and for objects below a directory.
fn same_node(a: Option<&Node<FileId>>, b: Option<&Node<FileId>>) -> bool {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (a, b) => return a.is_none() && b.is_none(),
    };
    let meta = |meta: &Metadata| (meta.mode, meta.uid, meta.gid, meta.xattrs.clone());
    let kind = match (&a.kind, &b.kind) {
        (Kind::Directory(_), Kind::Directory(_)) => true,
        (a, b) => a == b,
    };
    kind && meta(&a.meta) == meta(&b.meta)
}
