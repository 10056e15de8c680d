//! The changes of an upload, path by path, as in its bake.

use layerfmt::Content;
use layerfmt::tree::diff::diff;
use layerfmt::tree::{Child, Kind, Metadata, Node, NodeId, ROOT, Tree};
use wire::push::{Change, ChangeKind};

use super::BakeError;
use crate::assemble::Assembly;
use crate::overlay;

/// The tree of changes that an upload makes to `base`, and its list in order of paths. `notes` gets
/// findings for the user. `name` is that of the source.
pub(super) fn of_upload(
    base: &Tree<Content>,
    assembly: Assembly<Content>,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<(Tree<Content>, Vec<Change>), BakeError> {
    let overlaid = overlay::on_base(base, assembly, notes);
    let target = overlaid.map_err(|source| BakeError::Overlay {
        name: name.to_owned(),
        source,
    })?;
    let mut tree = diff(base, &target).map_err(|source| BakeError::Tree {
        name: name.to_owned(),
        source,
    })?;
    let mut changes = Changes {
        base,
        path: Vec::new(),
        found: Vec::new(),
    };
    let is_noise = changes.only_times(Some(ROOT), tree.node(ROOT));
    if is_noise && let (Some(node), Some(before)) = (tree.node_mut(ROOT), base.node(ROOT)) {
        node.meta.mtime = before.meta.mtime;
    }
    changes.drop_noise(&mut tree, Some(ROOT), ROOT);
    changes.node(&tree, Some(ROOT), ROOT);
    Ok((tree, changes.found))
}

struct Changes<'b> {
    base: &'b Tree<Content>,
    path: Vec<u8>,
    found: Vec<Change>,
}

impl Changes<'_> {
    /// Removes directories in which only their own times changed: an excluded or temporary file
    /// changed these. The lengths of paths bound the depth of a tree.
    fn drop_noise(&self, tree: &mut Tree<Content>, below: Option<NodeId>, at: NodeId) {
        let children: Vec<_> = tree
            .entries(at)
            .filter_map(|(name, child)| match child {
                Child::Node(id) => Some((name.clone(), *id)),
                Child::Whiteout => None,
            })
            .collect();
        for (name, id) in children {
            if tree.directory(id).is_none() {
                continue;
            }
            let before = self.child(below, name.as_bytes());
            self.drop_noise(tree, before, id);
            let is_noise = tree
                .directory(id)
                .is_some_and(|directory| directory.entries.is_empty() && !directory.opaque)
                && self.only_times(before, tree.node(id));
            if is_noise && let Some(directory) = tree.directory_mut(at) {
                directory.entries.remove(&name);
            }
        }
    }

    /// True if a directory differs from the base's only in times.
    fn only_times(&self, before: Option<NodeId>, node: Option<&Node<Content>>) -> bool {
        let before = before.and_then(|id| self.base.node(id));
        match (before, node) {
            (Some(before), Some(node)) => {
                before.kind.is_dir()
                    && node.kind.is_dir()
                    && same_but_times(&before.meta, &node.meta)
            }
            _ => false,
        }
    }

    fn child(&self, parent: Option<NodeId>, name: &[u8]) -> Option<NodeId> {
        match self.base.child(parent?, name) {
            Some(Child::Node(id)) => Some(id),
            _ => None,
        }
    }

    fn node(&mut self, tree: &Tree<Content>, before: Option<NodeId>, id: NodeId) {
        let Some(node) = tree.node(id) else { return };
        match before.and_then(|id| self.base.node(id)) {
            None => self.found(ChangeKind::Added),
            Some(before) if before.kind.is_dir() && node.kind.is_dir() => {
                if !same_but_times(&before.meta, &node.meta) {
                    self.found(ChangeKind::Metadata);
                }
            }
            Some(before) if before.kind == node.kind && before.meta != node.meta => {
                self.found(ChangeKind::Metadata);
            }
            Some(_) => self.found(ChangeKind::Changed),
        }
        let Kind::Directory(directory) = &node.kind else {
            return;
        };
        let before = before.filter(|id| self.base.directory(*id).is_some());
        let base = self.base;
        let hidden = before.filter(|_| directory.opaque);
        for (name, _) in hidden.into_iter().flat_map(|id| base.entries(id)) {
            if !directory.entries.contains_key(name) {
                self.within(name.as_bytes(), |changes| {
                    changes.found(ChangeKind::Deleted)
                });
            }
        }
        for (name, child) in &directory.entries {
            let below = self.child(before, name.as_bytes());
            self.within(name.as_bytes(), |changes| match child {
                Child::Whiteout => changes.found(ChangeKind::Deleted),
                Child::Node(id) => changes.node(tree, below, *id),
            });
        }
    }

    fn within(&mut self, name: &[u8], visit: impl FnOnce(&mut Self)) {
        let path_len = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(name);
        visit(self);
        self.path.truncate(path_len);
    }

    fn found(&mut self, kind: ChangeKind) {
        let path = match self.path.is_empty() {
            true => "/".to_owned(),
            false => String::from_utf8_lossy(&self.path).into_owned(),
        };
        self.found.push(Change { kind, path });
    }
}

fn same_but_times(one: &Metadata, other: &Metadata) -> bool {
    (one.mode, one.uid, one.gid, &one.xattrs) == (other.mode, other.uid, other.gid, &other.xattrs)
}
