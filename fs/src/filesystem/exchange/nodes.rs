//! The objects that the kernel knows, at the moment of the exchange. The tree is locked.

use std::collections::HashSet;
use std::sync::Arc;

use layerfmt::index::{NameChange, Restyled};
use layerfmt::{DirentTarget, Index, Ino};

use super::stale::Stale;
use super::{ExchangeError, Switched};
use crate::filesystem::LayerFs;
use crate::filesystem::lookup::lower_path;
use crate::filesystem::reply::{DIRECTORY, NodeId, REGULAR, ROOT_ID, lower_id};
use crate::filesystem::tree::{Name, Node, Tree};
use crate::lower::Lower;

/// Directories of the upper below each other that become merged: more are left to the next look-up.
const ROUNDS_MAX: usize = 64;

/// One exchange.
pub(super) struct Edit<'e> {
    pub(super) fs: &'e LayerFs,
    pub(super) next: &'e Arc<Lower>,
    pub(super) changes: &'e [NameChange],
    pub(super) restyled: &'e [Restyled],
    pub(super) dropped: &'e [Ino],
}

impl Edit<'_> {
    /// Exchanges the lower. An error changes nothing.
    pub(super) fn exchange(&self, tree: &mut Tree) -> Result<Switched, ExchangeError> {
        let dropped: HashSet<Ino> = self.dropped.iter().copied().collect();
        let moved = self.data_elsewhere(tree, &dropped)?;
        self.fs.lower.store(Arc::clone(self.next));
        tree.moved_are_known = false;
        let mut stale = Stale::default();
        for (id, row) in moved {
            if let Some(node) = tree.get_mut(id) {
                node.row = Some(row);
                stale.pages.push(id);
            }
        }
        let mut touched: HashSet<Ino> = self.changes.iter().map(|change| change.dir).collect();
        self.part(tree, &dropped, &mut stale);
        self.merge(tree, &mut touched, &mut stale);
        self.count(tree, &touched);
        let kept = self.orphan(tree, &mut stale);
        self.forget(tree, &touched, &mut stale);
        Ok(Switched { stale, kept })
    }

    /// The files of the upper whose data is in a lower file that has another row now.
    fn data_elsewhere(
        &self,
        tree: &Tree,
        dropped: &HashSet<Ino>,
    ) -> Result<Vec<(NodeId, Ino)>, ExchangeError> {
        let is_affected = |node: &Node| node.in_upper && !node.is_dir() && !node.names.is_empty();
        let mut moved = Vec::new();
        for (id, node) in tree.iter().filter(|(_, node)| is_affected(node)) {
            if node.row.is_none_or(|row| !dropped.contains(&row)) {
                continue;
            }
            let there = self.data_of(tree, id, node)?;
            let is_file = |row: &Ino| {
                let inode = self.next.index.inode(*row);
                inode.is_some_and(|inode| inode.kind() == REGULAR)
            };
            moved.push((id, there.filter(is_file).ok_or(ExchangeError::Lost)?));
        }
        Ok(moved)
    }

    /// The lower file that has the data of a file of the upper, as a new mount would find it.
    fn data_of(&self, tree: &Tree, id: NodeId, node: &Node) -> Result<Option<Ino>, ExchangeError> {
        let index = &self.next.index;
        let at = self.fs.at(tree, id, node)?;
        let redirect = at.xattr(&self.fs.upper()?.marks.redirect);
        let Some((parent, name)) = node.names.first() else {
            return Ok(None);
        };
        Ok(match redirect {
            Ok(path) if path.first() == Some(&b'/') => lower_path(index, &path),
            Ok(other) => tree.in_lower(index, *parent, &other),
            Err(_) => tree.in_lower(index, *parent, name),
        })
    }

    /// Directories of the upper whose lower part is gone.
    fn part(&self, tree: &mut Tree, dropped: &HashSet<Ino>, stale: &mut Stale) {
        let parts = |node: &Node| {
            let merged = node.is_dir() && node.in_upper && !node.names.is_empty();
            merged && node.row.is_some_and(|row| dropped.contains(&row))
        };
        let apart: Vec<NodeId> = tree
            .iter()
            .filter(|(_, node)| parts(node))
            .map(|(id, _)| id)
            .collect();
        for id in apart {
            if let Some(node) = tree.get_mut(id) {
                node.row = None;
                node.listing.lower_changed(0, |_| false);
            }
            stale.pages.push(id);
        }
    }

    /// Directories of the upper for which the lower has a directory now.
    fn merge(&self, tree: &mut Tree, touched: &mut HashSet<Ino>, stale: &mut Stale) {
        for _ in 0..ROUNDS_MAX {
            let found: Vec<(NodeId, NodeId, Name)> = tree
                .iter()
                .filter(|(_, node)| node.is_dir() && node.in_upper && node.row.is_none())
                .filter_map(|(id, node)| {
                    let (parent, name) = node.names.first()?;
                    let may_merge = node.moved || self.has_directory(tree, *parent, name);
                    may_merge.then(|| (id, *parent, Arc::clone(name)))
                })
                .collect();
            let mut merged = false;
            for (id, parent, name) in found {
                let Ok(object) = self.fs.identify(tree, parent, &name) else {
                    continue;
                };
                let Some(row) = object.row else { continue };
                if object.id != lower_id(row) || tree.get(object.id).is_some() {
                    continue;
                }
                self.renumber(tree, id, object.id, row);
                touched.insert(row);
                stale.names.push((parent, name));
                stale.pages.push(parent);
                merged = true;
            }
            if !merged {
                return;
            }
        }
    }

    fn has_directory(&self, tree: &Tree, parent: NodeId, name: &[u8]) -> bool {
        let row = tree.in_lower(&self.next.index, parent, name);
        let inode = row.and_then(|row| self.next.index.inode(row));
        inode.is_some_and(|inode| inode.is_dir())
    }

    /// Directory `from` is the directory `to` from now on. Processes that have it open see a removed
    /// one.
    fn renumber(&self, tree: &mut Tree, from: NodeId, to: NodeId, row: Ino) {
        let open = self.fs.directory(tree, from).ok();
        let was = tree.get_mut(from).map(|node| {
            node.row = Some(row);
            (
                std::mem::take(&mut node.lookups),
                node.number,
                node.generation,
            )
        });
        tree.renumber(from, to);
        self.fs.drop_descriptors(from);
        let Some(((lookups, number, generation), fd)) = was.zip(open) else {
            return;
        };
        tree.insert(
            from,
            Node {
                kind: DIRECTORY,
                in_upper: true,
                orphan: Some(fd),
                number,
                generation,
                lookups,
                ..Node::default()
            },
        );
    }

    /// Counts the subdirectories of merged directories with changes.
    fn count(&self, tree: &mut Tree, touched: &HashSet<Ino>) {
        let index = &self.next.index;
        for row in touched {
            // A merged directory has the number of its row.
            let Some(node) = tree.get_mut(lower_id(*row)) else {
                continue;
            };
            if node.row != Some(*row) || !node.is_dir() {
                continue;
            }
            let inode = index.inode(*row);
            let directories = inode.map_or(0, |inode| inode.nlink.saturating_sub(2));
            node.listing
                .lower_changed(directories, |name| is_directory(index, *row, name));
        }
    }

    /// Keeps the objects that have no name any more and that the kernel knows.
    fn orphan(&self, tree: &mut Tree, stale: &mut Stale) -> usize {
        let mut kept = 0;
        for row in self.dropped {
            if !self.fs.row_lookups.is_known(*row) {
                continue;
            }
            kept += 1;
            let id = lower_id(*row);
            if self.fs.upper.is_none() {
                stale.attributes.push(id);
                continue;
            }
            if tree.get(id).is_none() {
                let kind = self.next.index.inode(*row).map_or(0, |inode| inode.kind());
                let row = Some(*row);
                tree.insert(
                    id,
                    Node {
                        kind,
                        row,
                        ..Node::default()
                    },
                );
                stale.attributes.push(id);
            }
        }
        kept
    }

    fn is_known(&self, tree: &Tree, id: NodeId) -> bool {
        id == ROOT_ID || self.fs.is_known(tree, id)
    }

    fn forget(&self, tree: &Tree, touched: &HashSet<Ino>, stale: &mut Stale) {
        for change in self.changes {
            let dir = lower_id(change.dir);
            let in_upper = tree
                .get(dir)
                .is_some_and(|node| node.listing.get(&change.name).is_some());
            if !in_upper && self.is_known(tree, dir) {
                stale.names.push((dir, Arc::from(&*change.name)));
            }
        }
        let directories = touched.iter().map(|row| lower_id(*row));
        stale
            .pages
            .extend(directories.filter(|id| self.is_known(tree, *id)));
        let restyled = self.restyled.iter().map(|restyled| lower_id(restyled.dir));
        stale
            .attributes
            .extend(restyled.filter(|id| self.is_known(tree, *id)));
    }
}

fn is_directory(index: &Index, dir: Ino, name: &[u8]) -> bool {
    let child = index.lookup(dir, name).map(|entry| entry.child);
    match child {
        Some(DirentTarget::Inode(row)) => index.inode(row).is_some_and(|inode| inode.is_dir()),
        _ => false,
    }
}
