//! The objects of the upper that the kernel knows. Objects only in the lower have no entry here:
//! their number is their row.

pub mod entries;
mod numbers;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use layerfmt::{DirentTarget, Index, Ino};

pub use self::entries::{Entry, Listing};
pub(crate) use self::numbers::KeptNumbers;
use super::change_time::ChangeTime;
use super::copy_data::Kept;
use super::protection::Protection;
use super::reply::{DIRECTORY, NodeId};

/// Changed names that are recorded during a switch; with more it begins again.
pub(crate) const CHANGED_NAMES_MAX: usize = 1 << 16;

/// A name, shared between the listing and the node.
pub type Name = Arc<[u8]>;

/// An object the upper has, or a lower object that lost its last name.
#[derive(Debug, Default)]
pub struct Node {
    /// The type bits of the mode.
    pub kind: u32,
    /// Its names; empty: none (or the root). Names that were not looked up are missing.
    pub names: Vec<(NodeId, Name)>,
    /// Holds an object of the upper without a known name.
    pub orphan: Option<Arc<OwnedFd>>,
    /// The object's name in the work directory, if too few descriptors were left to hold it open.
    pub aside: Option<Box<[u8]>>,
    /// True if the upper has the object.
    pub in_upper: bool,
    /// For a directory: the lower directory with which it is merged. For a file: the lower file
    /// with its data.
    pub row: Option<Ino>,
    /// The inode number in the upper.
    pub number: u64,
    /// Generation of an object only in the upper: distinguishes it from an earlier object with the
    /// same number.
    pub generation: u32,
    /// A directory that is not at its place in the lower: found by its row only while it has this
    /// node.
    pub moved: bool,
    /// The device that a stand-in represents.
    pub device: Option<(u32, u32)>,
    /// Number of lookups by the kernel; those of rows are counted separately.
    pub lookups: AtomicU32,
    /// A file of the upper that is known to have no `security.capability`: the kernel asks at the first write
    /// to each file.
    pub incapable: bool,
    /// The chattr flags.
    pub protection: Protection,
    /// A directory's part in the upper.
    pub listing: Listing,
    /// Attributes to restore after the copy of a file's data. Boxed: there are many nodes, and few
    /// such files.
    pub kept: Mutex<Option<Box<Kept>>>,
    /// The change time to show instead of one that a copy-up changed. Boxed to keep the node small.
    pub change_time: Mutex<Option<Box<ChangeTime>>>,
}

impl Node {
    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == DIRECTORY
    }

    /// The object of `name` in the lower directory that this one is merged with.
    pub(crate) fn in_lower(&self, index: &Index, name: &[u8]) -> Option<Ino> {
        match index.lookup(self.row?, name)?.child {
            DirentTarget::Inode(row) => Some(row),
            DirentTarget::Whiteout => None,
        }
    }
}

/// Holds an object that loses its last name while it is in use.
#[derive(Debug)]
pub enum Keeper {
    /// Its open descriptor.
    Open(Arc<OwnedFd>),
    /// A name in the work directory.
    Aside(Box<[u8]>),
}

/// The object of a name in the merged tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visible {
    /// An object of the upper; its node's number if it was looked up, else 0.
    Upper {
        /// See [`Entry::Object`].
        id: NodeId,
        /// The type bits of the mode.
        kind: u32,
    },
    /// A row of the lower.
    Lower(Ino),
}

/// All nodes by number.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: HashMap<NodeId, Node, RandomState>,
    /// True if the directories that were moved before this mount have their nodes.
    pub moved_are_known: bool,
    /// Number of names given to objects so far.
    pub names_given: u64,
    /// Number of objects of the upper that lost their last name while they were held.
    pub names_lost: u64,
    /// During a switch: the names that changed since it began.
    pub changed_names: Option<Vec<(NodeId, Name)>>,
    /// After a switch: the directories that do not have the number of their row.
    pub(crate) kept_numbers: KeptNumbers,
}

impl Tree {
    /// The node `id`, if the upper has (or had) it.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// A node like [`Tree::get`], mutable.
    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }

    /// Add a node.
    pub fn insert(&mut self, id: NodeId, node: Node) {
        self.nodes.insert(id, node);
    }

    /// True if an object of the upper has lost its last name and is still held.
    pub(crate) fn has_nameless(&self) -> bool {
        self.nodes
            .values()
            .any(|node| node.orphan.is_some() || node.aside.is_some())
    }

    /// All nodes.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True if there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Take a node out; its names forget its number.
    pub fn remove(&mut self, id: NodeId) -> Option<Node> {
        let node = self.nodes.remove(&id)?;
        for (parent, name) in &node.names {
            if let Some(parent) = self.nodes.get_mut(parent) {
                parent.listing.forget_node(name);
            }
        }
        Some(node)
    }

    /// True if an entry of `node` is in the tree.
    pub(crate) fn has_known_child(node: &Node) -> bool {
        node.listing
            .iter()
            .any(|(_, entry)| matches!(entry, Entry::Object { id, .. } if *id != 0))
    }

    /// The object of `name` in the lower part of directory `parent`.
    pub(crate) fn in_lower(&self, index: &Index, parent: NodeId, name: &[u8]) -> Option<Ino> {
        self.get(parent)?.in_lower(index, name)
    }

    /// The object of `name` in `parent`. `parent` is in the tree.
    pub fn visible(&self, index: &Index, parent: NodeId, name: &[u8]) -> Option<Visible> {
        let node = self.get(parent)?;
        if node.names.is_empty() && parent != super::reply::ROOT_ID {
            return None;
        }
        match node.listing.get(name) {
            Some(Entry::Whiteout) => None,
            Some(Entry::Object { id, kind, .. }) => Some(Visible::Upper { id, kind }),
            None => node.in_lower(index, name).map(Visible::Lower),
        }
    }

    /// Records during a switch that `name` in `parent` has changed.
    fn record(&mut self, parent: NodeId, name: &Name) {
        if let Some(changed) = &mut self.changed_names
            && changed.len() <= CHANGED_NAMES_MAX
        {
            changed.push((parent, Arc::clone(name)));
        }
    }

    /// Changes the entry of `name` in `parent` with `set`, which gets true if the lower has the name,
    /// and counts the subdirectories.
    fn change<T>(
        &mut self,
        index: &Index,
        parent: NodeId,
        name: &Name,
        set: impl FnOnce(&mut Listing, bool) -> T,
    ) -> Option<T> {
        let node = self.nodes.get_mut(&parent)?;
        let is_there = !node.names.is_empty() || parent == super::reply::ROOT_ID;
        let lower = node.in_lower(index, name);
        let shows_directory = |listing: &Listing| match listing.get(name) {
            Some(Entry::Object { kind, .. }) => kind == DIRECTORY,
            Some(Entry::Whiteout) => false,
            None => lower
                .and_then(|row| index.inode(row))
                .is_some_and(|inode| inode.is_dir()),
        };
        let before = shows_directory(&node.listing);
        let done = set(&mut node.listing, lower.is_some());
        let after = shows_directory(&node.listing);
        let count = &mut node.listing.subdirectories;
        match (before, after) {
            (false, true) if is_there => *count = count.saturating_add(1),
            (true, false) if is_there => *count = count.saturating_sub(1),
            _ => {}
        }
        Some(done)
    }

    /// `name` in `parent` is now the object `id` of the upper.
    pub(crate) fn name_object(
        &mut self,
        index: &Index,
        parent: NodeId,
        name: &Name,
        id: NodeId,
        kind: u32,
    ) {
        let is_given = self.change(index, parent, name, |listing, in_lower| {
            listing.set_object(name, id, kind, in_lower)
        });
        if is_given.unwrap_or(true) {
            self.names_given += 1;
            self.record(parent, name);
        }
    }

    /// `name` was found in the upper's part of `parent` when that was read.
    pub(crate) fn found_object(&mut self, index: &Index, parent: NodeId, name: &Name, kind: u32) {
        self.change(index, parent, name, |listing, in_lower| {
            listing.found_object(name, kind, in_lower)
        });
    }

    /// The upper has a whiteout for `name` in `parent`.
    pub fn hide(&mut self, index: &Index, parent: NodeId, name: &Name) {
        self.change(index, parent, name, |listing, _| listing.set_whiteout(name));
    }

    /// Removes `name` from `parent`: hides it if the lower has it.
    pub(crate) fn unname(&mut self, index: &Index, parent: NodeId, name: &Name) {
        self.record(parent, name);
        self.change(index, parent, name, |listing, in_lower| {
            if in_lower {
                listing.set_whiteout(name)
            } else {
                listing.clear(name)
            }
        });
    }

    /// True if the merged directory `id` shows no entry. It is in the tree.
    pub(crate) fn is_empty_directory(&self, index: &Index, id: NodeId) -> bool {
        let Some(node) = self.get(id) else {
            return true;
        };
        if node.listing.has_objects() {
            return false;
        }
        node.row.is_none_or(|row| {
            index.entries(row, 0).all(|entry| {
                entry.child == DirentTarget::Whiteout || node.listing.get(entry.name).is_some()
            })
        })
    }
}
