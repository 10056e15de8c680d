//! Names to nodes, and the nodes the kernel forgets.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use layerfmt::{DirentTarget, Index, Ino, ROOT};
use rustix::fs::Stat;

use super::attributes::attr_of;
use super::copy_data::{Kept, settle};
use super::load::{change_time_of, protection_of};
use super::reply::{Attr, DIRECTORY, NodeId, REGULAR, ROOT_ID, TYPE_MASK, lower_id};
use super::tree::{Name, Node, Tree, Visible};
use super::{LayerFs, NAME_LEN_MAX, lock};
use crate::error::{Error, Result};
use crate::lower::Lower;
use crate::sys::Errno;
use crate::sys::object::At;
use crate::upper::marks::Marked;

/// An object of the upper, before it is a node.
pub(super) struct UpperObject {
    pub(super) id: NodeId,
    stat: Stat,
    pub(super) marked: Marked,
    /// The lower directory it is merged with, or the row its data is in.
    pub(super) row: Option<Ino>,
}

impl UpperObject {
    pub(super) fn kind(&self) -> u32 {
        self.stat.st_mode & TYPE_MASK
    }
}

impl LayerFs {
    /// Looks up `name` in `parent` and counts it as known to the kernel. `None`: it does not exist.
    ///
    /// # Errors
    /// ENAMETOOLONG, or the error of the upper's file system.
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Option<Attr>> {
        if name.len() > NAME_LEN_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        if self.upper.is_none() {
            return Ok(self.lookup_lower(parent, name));
        }
        {
            let tree = self.read_tree();
            if tree.get(parent).is_none() {
                return Ok(self.lookup_lower(parent, name));
            }
            let lower = self.lower();
            match tree.visible(&lower.index, parent, name) {
                None => return Ok(None),
                Some(Visible::Lower(row)) => return Ok(Some(self.looked_up_lower(&lower, row)?)),
                Some(Visible::Upper { id: 0, .. }) => {}
                Some(Visible::Upper { id, .. }) => return self.looked_up(&tree, id).map(Some),
            }
        }
        self.with_descriptors(|| {
            let mut tree = self.write_tree();
            match self.visible(&mut tree, parent, name)? {
                None => Ok(None),
                Some(id) => self.looked_up(&tree, id).map(Some),
            }
        })
    }

    fn lookup_lower(&self, parent: NodeId, name: &[u8]) -> Option<Attr> {
        let lower = self.lower();
        let dirent = lower.index.lookup(self.numbers.row_of(parent)?, name)?;
        match dirent.child {
            DirentTarget::Inode(row) => self.looked_up_lower(&lower, row).ok(),
            DirentTarget::Whiteout => None,
        }
    }

    /// Counts a lookup of row `row`.
    pub(super) fn looked_up_lower(&self, lower: &Lower, row: Ino) -> Result<Attr> {
        if let Some(count) = self.row_lookups.get(row) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        attr_of(lower, row).ok_or(Errno::IO.into())
    }

    /// Counts a lookup of node `id`, which is in the tree or a row.
    pub(super) fn looked_up(&self, tree: &Tree, id: NodeId) -> Result<Attr> {
        let attr = self.attr(tree, id)?;
        if let Some(count) = self.lookups(id, tree.get(id)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(attr)
    }

    /// The kernel forgets `count` lookups of `id`.
    pub fn forget(&self, id: NodeId, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let gone = {
            let tree = self.read_tree();
            let Some(counter) = self.lookups(id, tree.get(id)) else {
                return;
            };
            let before = counter
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |have| {
                    Some(have.saturating_sub(count))
                })
                .unwrap_or(0);
            before <= count && tree.get(id).is_some()
        };
        if gone {
            let mut tree = self.write_tree();
            self.release(&mut tree, id);
        }
    }

    /// Drops node `id` if it is not needed, then its parents. Their descriptors are closed under
    /// the lock, so that the space of a removed file is usually free for the next request.
    pub(super) fn release(&self, tree: &mut Tree, id: NodeId) {
        let mut at = id;
        while at != ROOT_ID {
            let Some(node) = tree.get(at) else { return };
            let known = self
                .lookups(at, Some(node))
                .is_some_and(|n| n.load(Ordering::Relaxed) > 0);
            let is_found_by_row = node.moved && !node.names.is_empty();
            let stays = is_found_by_row || self.has_number_here_only(at, node);
            if known || stays || Tree::has_known_child(node) {
                return;
            }
            let Some(node) = tree.remove(at) else { return };
            self.drop_descriptors(at);
            if let (Some(aside), Some(upper)) = (&node.aside, &self.upper) {
                upper.clear_aside(aside);
            }
            match node.names.first() {
                Some((parent, _)) => at = *parent,
                None => return,
            }
        }
    }

    /// True if only the tree knows the number of a node: the upper of an ordinary user keeps no
    /// origin of links and devices.
    fn has_number_here_only(&self, id: NodeId, node: &Node) -> bool {
        let plain = matches!(node.kind, REGULAR | DIRECTORY);
        node.in_upper
            && !plain
            && !node.names.is_empty()
            && self.numbers.row_of(id).is_some()
            && self
                .upper
                .as_ref()
                .is_some_and(|upper| upper.marks.in_user_namespace())
    }

    /// The object `name` in `parent`, with a node for an object of the upper. `parent` may be a
    /// row.
    pub(super) fn visible(
        &self,
        tree: &mut Tree,
        parent: NodeId,
        name: &[u8],
    ) -> Result<Option<NodeId>> {
        let lower = self.lower();
        let index = &*lower.index;
        if tree.get(parent).is_none() {
            let row = self.numbers.row_of(parent).ok_or(Errno::STALE)?;
            return Ok(index.lookup(row, name).and_then(|entry| match entry.child {
                DirentTarget::Inode(row) => Some(lower_id(row)),
                DirentTarget::Whiteout => None,
            }));
        }
        match tree.visible(index, parent, name) {
            None => Ok(None),
            Some(Visible::Lower(row)) => Ok(Some(lower_id(row))),
            Some(Visible::Upper { id: 0, .. }) => {
                self.resolve(tree, parent, &Arc::from(name)).map(Some)
            }
            Some(Visible::Upper { id, .. }) => Ok(Some(id)),
        }
    }

    /// Determines the upper's object `name` in `parent`, without creating a node.
    pub(super) fn identify(&self, tree: &Tree, parent: NodeId, name: &[u8]) -> Result<UpperObject> {
        let upper = self.upper()?;
        let at = At::Name(self.directory(tree, parent)?, name);
        let stat = at.stat()?;
        let lower = self.lower();
        let marked = upper.marks.read(&at, &lower.origins)?;
        let index = &*lower.index;
        let kind = stat.st_mode & TYPE_MASK;
        let beside = |name: &[u8]| tree.in_lower(index, parent, name);
        let redirected = match &marked.redirect {
            Some(path) if path.first() == Some(&b'/') => lower_path(index, path),
            Some(name) => beside(name),
            None => beside(name),
        };
        let of_kind = |row: &Ino| index.inode(*row).is_some_and(|inode| inode.kind() == kind);
        let (row, origin) = match kind {
            DIRECTORY if marked.opaque => (None, None),
            DIRECTORY => {
                let row = redirected.filter(of_kind);
                (row, row)
            }
            REGULAR if marked.metacopy => (redirected.filter(of_kind), marked.origin),
            _ => (None, marked.origin),
        };
        let own = self.numbers.upper_id(stat.st_ino);
        let kept = tree.kept_numbers.of_upper(stat.st_ino);
        let kept = kept.filter(|_| kind == DIRECTORY);
        // A second object that claims the same origin (a copy made outside the mount) gets its own
        // number.
        let usual = || match origin.filter(of_kind).map(lower_id) {
            Some(id) => match tree.get(id) {
                Some(node) if node.in_upper && node.number != stat.st_ino => own,
                Some(node) if node.is_dir() && !node.names.is_empty() && id != ROOT_ID => {
                    let same = node
                        .names
                        .iter()
                        .any(|(dir, known)| *dir == parent && **known == *name);
                    if same { id } else { own }
                }
                _ => id,
            },
            None => own,
        };
        let id = kept.unwrap_or_else(usual);
        Ok(UpperObject {
            id,
            stat,
            marked,
            row,
        })
    }

    /// Makes a node of the upper's `name` in `parent`.
    pub(super) fn resolve(&self, tree: &mut Tree, parent: NodeId, name: &Name) -> Result<NodeId> {
        let found = self.identify(tree, parent, name)?;
        let (id, kind) = (found.id, found.kind());
        if let Some(node) = tree.get_mut(id) {
            node.orphan = None;
            if let Some(aside) = node.aside.take() {
                self.upper()?.clear_aside(&aside);
            }
            if !node
                .names
                .iter()
                .any(|(dir, known)| *dir == parent && known == name)
            {
                node.names.push((parent, Arc::clone(name)));
            }
        } else {
            if kind == REGULAR && found.marked.metacopy && found.row.is_none() {
                let name = String::from_utf8_lossy(name);
                let what = format!(
                    "the data of {name:?} in the upper is in a lower file that this stack does not have"
                );
                return Err(Error::fault(Errno::IO, what));
            }
            let copying = found.marked.copying.as_deref();
            let generation = match self.numbers.row_of(id) {
                Some(_) => 0,
                None => self.upper_generation(&At::Name(self.directory(tree, parent)?, name)),
            };
            let mut node = Node {
                generation,
                kept: copying.and_then(Kept::from_note).map(Box::new).into(),
                change_time: change_time_of(&found.marked),
                protection: protection_of(&found.marked),
                kind,
                names: vec![(parent, Arc::clone(name))],
                in_upper: true,
                row: found.row,
                number: found.stat.st_ino,
                device: found.marked.device,
                ..Node::default()
            };
            if copying.is_some() {
                // An interrupted copy. If the upper cannot be changed now, the node still has the
                // right values.
                let at = At::Name(self.directory(tree, parent)?, name);
                let _ = settle(&mut node, &self.upper()?.marks, &at);
            }
            tree.insert(id, node);
            if kind == DIRECTORY
                && let Err(error) = self.load(tree, id)
            {
                tree.remove(id);
                self.drop_descriptors(id);
                return Err(error);
            }
        }
        tree.name_object(&self.lower().index, parent, name, id, kind);
        Ok(id)
    }

    /// The node of lower directory `row`, if it is at its place in the lower; a node of the tree if
    /// the upper has it too.
    pub(super) fn locate(&self, tree: &mut Tree, row: Ino) -> Result<Option<NodeId>> {
        let id = tree.kept_numbers.of_row(row);
        if tree.get(id).is_some() {
            return Ok(Some(id));
        }
        let lower = self.lower();
        let Some(place) = lower.names().places(row).next() else {
            return Ok(None);
        };
        let Some(parent) = self.locate(tree, place.dir)? else {
            return Ok(None);
        };
        let name = crate::names::Names::name(&lower.index, place);
        let shown = self.visible(tree, parent, name)?;
        Ok(shown.filter(|shown| *shown == id))
    }

    /// True if the kernel knows node `id`.
    pub(super) fn is_known(&self, tree: &Tree, id: NodeId) -> bool {
        self.lookups(id, tree.get(id))
            .is_some_and(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// Descriptors held open, for the status.
    pub(crate) fn open_descriptors(&self) -> usize {
        lock(&self.directories).len()
            + self
                .files
                .iter()
                .map(|shard| lock(shard).len())
                .sum::<usize>()
    }
}

/// The row at an absolute path of the lower.
pub(super) fn lower_path(index: &Index, path: &[u8]) -> Option<Ino> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
        .try_fold(ROOT, |row, part| match index.lookup(row, part)?.child {
            DirentTarget::Inode(row) => Some(row),
            DirentTarget::Whiteout => None,
        })
}
