//! The objects that the kernel knows, at the moment of the exchange. The tree is locked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use layerfmt::index::{NameChange, Restyled};
use layerfmt::{DirentTarget, Index, Ino};

use super::stale::Stale;
use super::{ExchangeError, Switched};
use crate::filesystem::LayerFs;
use crate::filesystem::lookup::lower_path;
use crate::filesystem::reply::{DIRECTORY, NodeId, REGULAR, ROOT_ID, lower_id};
use crate::filesystem::tree::{Entry, Node, Tree};
use crate::lower::Lower;

/// One exchange.
pub(super) struct Edit<'e> {
    pub(super) fs: &'e LayerFs,
    pub(super) next: &'e Arc<Lower>,
    pub(super) changes: &'e [NameChange],
    pub(super) restyled: &'e [Restyled],
    pub(super) dropped: &'e [Ino],
    /// Directories of the upper with a redirect, by their numbers there.
    pub(super) redirected: &'e HashSet<u64>,
}

impl Edit<'_> {
    /// Exchanges the lower. An error changes nothing.
    pub(super) fn exchange(&self, tree: &mut Tree) -> Result<Switched, ExchangeError> {
        let dropped: HashSet<Ino> = self.dropped.iter().copied().collect();
        let moved = self.data_elsewhere(tree, &dropped)?;
        let before = self.fs.lower.swap(Arc::clone(self.next));
        tree.moved_are_known = false;
        let mut stale = Stale::default();
        for (id, row) in moved {
            if let Some(node) = tree.get_mut(id) {
                node.row = Some(row);
                stale.pages.push(id);
            }
        }
        let touched: HashSet<Ino> = self.changes.iter().map(|change| change.dir).collect();
        // Before and after: a directory may lose its lower part, and another may get it.
        let mut merged = Merged::default();
        merged.add(tree, &touched);
        self.part(tree, &dropped, &mut stale);
        self.merge(tree, &mut stale);
        merged.add(tree, &touched);
        self.count(tree, &merged);
        let kept = self.orphan(tree, &mut stale);
        self.forget(tree, &before, &touched, &merged, &mut stale);
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
            self.merge_with(tree, id, None, false);
            stale.directories.push(id);
        }
        // Nobody can ask for what the kernel has forgotten.
        let mut kept = std::mem::take(&mut tree.kept_numbers);
        kept.retain(|id| tree.get(id).is_some());
        tree.kept_numbers = kept;
    }

    /// Directories of the upper for which the lower has a directory now.
    fn merge(&self, tree: &mut Tree, stale: &mut Stale) {
        let mut left: Vec<NodeId> = tree
            .iter()
            .filter(|(id, node)| self.may_merge(tree, *id, node))
            .map(|(id, _)| id)
            .collect();
        while let Some(id) = left.pop() {
            let name = tree.get(id).and_then(|node| node.names.first().cloned());
            let Some((parent, name)) = name else { continue };
            let Ok(object) = self.fs.identify(tree, parent, &name) else {
                continue;
            };
            if object.row.is_none() {
                continue;
            }
            self.merge_with(tree, id, object.row, object.marked.redirect.is_some());
            stale.directories.push(id);
            // Those in it may be merged too.
            let below = tree
                .get(id)
                .into_iter()
                .flat_map(|node| node.listing.iter());
            left.extend(below.filter_map(|(_, entry)| match entry {
                Entry::Object { id, kind, .. } if *kind == DIRECTORY && *id != 0 => Some(*id),
                _ => None,
            }));
        }
    }

    fn may_merge(&self, tree: &Tree, id: NodeId, node: &Node) -> bool {
        if !node.is_dir() || !node.in_upper || node.row.is_some() || id == ROOT_ID {
            return false;
        }
        let Some((parent, name)) = node.names.first() else {
            return false;
        };
        node.moved
            || self.redirected.contains(&node.number)
            || self.has_directory(tree, *parent, name)
    }

    fn has_directory(&self, tree: &Tree, parent: NodeId, name: &[u8]) -> bool {
        let row = tree.in_lower(&self.next.index, parent, name);
        let inode = row.and_then(|row| self.next.index.inode(row));
        inode.is_some_and(|inode| inode.is_dir())
    }

    /// Directory `id` is merged with `row` from now on, and keeps its number.
    fn merge_with(&self, tree: &mut Tree, id: NodeId, row: Option<Ino>, moved: bool) {
        let index = &self.next.index;
        let Some(node) = tree.get_mut(id) else { return };
        node.row = row;
        node.moved = moved;
        let number = node.number;
        count_directories(index, node);
        let usual = row.map_or_else(|| self.fs.numbers.upper_id(number), lower_id);
        tree.kept_numbers.keep(number, row, id, usual);
    }

    /// Counts the subdirectories of merged directories with changes.
    fn count(&self, tree: &mut Tree, merged: &Merged) {
        for id in merged.0.values().flatten() {
            if let Some(node) = tree.get_mut(*id) {
                count_directories(&self.next.index, node);
            }
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

    /// The directories in which subdirectories come or go.
    fn with_other_directories(&self, before: &Lower) -> HashSet<Ino> {
        let is_dir = |index: &Index, row: Option<Ino>| {
            let inode = row.and_then(|row| index.inode(row));
            inode.is_some_and(|inode| inode.is_dir())
        };
        let changes = self.changes.iter().filter(|change| {
            is_dir(&before.index, change.before) || is_dir(&self.next.index, change.after)
        });
        changes.map(|change| change.dir).collect()
    }

    fn is_known(&self, tree: &Tree, id: NodeId) -> bool {
        id == ROOT_ID || self.fs.is_known(tree, id)
    }

    fn forget(
        &self,
        tree: &Tree,
        before: &Lower,
        touched: &HashSet<Ino>,
        merged: &Merged,
        stale: &mut Stale,
    ) {
        let known = |row: Ino| {
            let all = merged.directories(row);
            all.filter(|id| self.is_known(tree, *id))
        };
        for change in self.changes {
            let hides = |id: &NodeId| {
                let node = tree.get(*id);
                node.is_some_and(|node| node.listing.get(&change.name).is_some())
            };
            for id in known(change.dir).filter(|id| !hides(id)) {
                stale.names.push((id, Arc::from(&*change.name)));
            }
            let former = change
                .before
                .filter(|row| self.fs.row_lookups.is_known(*row));
            stale.former.extend(former.map(lower_id));
        }
        let counted = self.with_other_directories(before);
        for row in touched {
            let size = |index: &Index| index.inode(*row).map(|inode| inode.size);
            let differs = counted.contains(row) || size(&before.index) != size(&self.next.index);
            match differs {
                true => stale.directories.extend(known(*row)),
                false => stale.listings.extend(known(*row)),
            }
        }
        for restyled in self.restyled {
            let forgotten = match restyled.beyond_time {
                true => &mut stale.attributes,
                false => &mut stale.directories,
            };
            forgotten.extend(known(restyled.dir));
        }
        for list in [&mut stale.directories, &mut stale.former] {
            list.sort_unstable();
            list.dedup();
        }
    }
}

/// The directories of the upper that are, or were, merged with rows that change.
#[derive(Debug, Default)]
struct Merged(HashMap<Ino, Vec<NodeId>>);

impl Merged {
    fn add(&mut self, tree: &Tree, touched: &HashSet<Ino>) {
        for (id, node) in tree.iter().filter(|(_, node)| node.is_dir()) {
            let Some(row) = node.row.filter(|row| touched.contains(row)) else {
                continue;
            };
            let known = self.0.entry(row).or_default();
            if !known.contains(&id) {
                known.push(id);
            }
        }
    }

    /// The directories that show the entries of `row`.
    fn directories(&self, row: Ino) -> impl Iterator<Item = NodeId> {
        let own = lower_id(row);
        let others = self.0.get(&row).into_iter().flatten();
        std::iter::once(own).chain(others.copied().filter(move |id| *id != own))
    }
}

/// Counts the subdirectories that a directory of the upper shows.
fn count_directories(index: &Index, node: &mut Node) {
    let row = node.row;
    let inode = row.and_then(|row| index.inode(row));
    let directories = inode.map_or(0, |inode| inode.nlink.saturating_sub(2));
    node.listing.lower_changed(directories, |name| {
        row.is_some_and(|row| is_directory(index, row, name))
    });
}

fn is_directory(index: &Index, dir: Ino, name: &[u8]) -> bool {
    let child = index.lookup(dir, name).map(|entry| entry.child);
    match child {
        Some(DirentTarget::Inode(row)) => index.inode(row).is_some_and(|inode| inode.is_dir()),
        _ => false,
    }
}
