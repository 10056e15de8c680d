//! The objects of the upper that the kernel knows. Objects only in the lower have no entry here:
//! their number is their row.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use layerfmt::{Child, Index, Ino};

use super::change_time::ChangeTime;
use super::cookie::{Clock, Spot};
use super::copy_data::Kept;
use super::protection::Protection;
use super::reply::{DIRECTORY, NodeId};

/// A name, shared between the listing and the node.
pub type Name = Arc<[u8]>;

/// The entry of one name in an upper directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The name is hidden.
    Whiteout,
    /// An object of the upper.
    Object {
        /// Its node; 0 before the first request. Otherwise the node is in the tree.
        id: NodeId,
        /// The type bits of the mode.
        kind: u32,
        /// When the name appeared here ([`Clock`]); 0: it was there from the start.
        born: u32,
        /// Place in listings; a name that the lower has too keeps the lower's.
        spot: Option<Spot>,
    },
}

/// The upper's part of a directory, complete.
#[derive(Debug, Default)]
pub struct Listing {
    names: BTreeMap<Name, Entry>,
    /// Names that only the upper has.
    order: BTreeMap<Spot, Name>,
    /// Objects, not whiteouts.
    objects: usize,
    /// Which names are new.
    pub clock: Clock,
    /// Visible subdirectories, those of the lower included.
    pub subdirectories: u32,
    /// True if new objects get their permissions from a default ACL; `None` if unknown.
    pub default_acl: Option<bool>,
}

impl Listing {
    /// The upper's entry of `name`.
    pub fn get(&self, name: &[u8]) -> Option<Entry> {
        self.names.get(name).copied()
    }

    /// Iterates over all entries.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.names.iter()
    }

    /// Objects that the lower has no name for, from `from` on, in their order.
    pub fn objects_from(&self, from: Spot) -> impl Iterator<Item = (Spot, &Name, Entry)> {
        self.order
            .range(from..)
            .filter_map(|(spot, name)| self.names.get(name).map(|entry| (*spot, name, *entry)))
    }

    /// True if it contains an object (not only whiteouts).
    pub fn has_objects(&self) -> bool {
        self.objects > 0
    }

    fn take(&mut self, name: &[u8]) {
        if let Some(Entry::Object { spot, .. }) = self.names.remove(name) {
            self.objects = self.objects.saturating_sub(1);
            if let Some(spot) = spot {
                self.order.remove(&spot);
            }
        }
    }

    /// Sets the object of `name`. An object that replaces another, or the lower's, keeps its place
    /// in listings and its age. `spot`: its place, unless the lower has the name.
    fn set_object(&mut self, name: &Name, id: NodeId, kind: u32, spot: Option<Spot>) {
        if let Some(Entry::Object {
            id: old_id,
            kind: old_kind,
            ..
        }) = self.names.get_mut(name)
        {
            (*old_id, *old_kind) = (id, kind);
            return;
        }
        let stays = spot.is_none() && !self.names.contains_key(name);
        let born = if stays { 0 } else { self.clock.birth() };
        self.add_object(name, id, kind, spot, born);
    }

    fn add_object(
        &mut self,
        name: &Name,
        id: NodeId,
        kind: u32,
        mut spot: Option<Spot>,
        born: u32,
    ) {
        self.take(name);
        if let Some(spot) = &mut spot {
            while self.order.contains_key(spot) {
                *spot = spot.next();
            }
            self.order.insert(*spot, Arc::clone(name));
        }
        self.objects += 1;
        let entry = Entry::Object {
            id,
            kind,
            born,
            spot,
        };
        self.names.insert(Arc::clone(name), entry);
    }

    /// Hides `name` by a whiteout.
    pub fn set_whiteout(&mut self, name: &Name) {
        self.take(name);
        self.names.insert(Arc::clone(name), Entry::Whiteout);
    }

    /// The upper has no object of this name any more.
    pub fn clear(&mut self, name: &[u8]) {
        self.take(name);
    }
}

/// An object the upper has, or a lower object that lost its last name.
#[derive(Debug, Default)]
pub struct Node {
    /// The type bits of the mode.
    pub kind: u32,
    /// Its names; empty: none (or the root). Names that were not looked up are missing.
    pub names: Vec<(NodeId, Name)>,
    /// Holds an object of the upper without a known name.
    pub orphan: Option<Arc<OwnedFd>>,
    /// The alternative if descriptors are few: a name in the work directory.
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
    /// A file of the upper that certainly has no `security.capability`: the kernel asks at the
    /// first write to each.
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
    nodes: HashMap<NodeId, Node>,
    /// True if the directories that were moved before this mount have their nodes.
    pub moved_are_known: bool,
    /// Number of names given to objects so far.
    pub names_given: u64,
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
    pub fn has_nameless(&self) -> bool {
        self.nodes
            .values()
            .any(|node| node.orphan.is_some() || node.aside.is_some())
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
            if let Some(parent) = self.nodes.get_mut(parent)
                && let Some(Entry::Object { id, .. }) = parent.listing.names.get_mut(name)
            {
                *id = 0;
            }
        }
        Some(node)
    }

    /// True if an entry of `node` is in the tree.
    pub fn has_known_child(node: &Node) -> bool {
        node.listing
            .names
            .values()
            .any(|entry| matches!(entry, Entry::Object { id, .. } if *id != 0))
    }

    /// The object of `name` in the lower part of directory `parent`.
    pub fn in_lower(&self, index: &Index, parent: NodeId, name: &[u8]) -> Option<Ino> {
        let row = self.get(parent)?.row?;
        match index.lookup(row, name)?.child {
            Child::Inode(row) => Some(row),
            Child::Whiteout => None,
        }
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
            None => self.in_lower(index, parent, name).map(Visible::Lower),
        }
    }

    fn shows_directory(&self, index: &Index, parent: NodeId, name: &[u8]) -> bool {
        match self.visible(index, parent, name) {
            Some(Visible::Upper { kind, .. }) => kind == DIRECTORY,
            Some(Visible::Lower(row)) => index.inode(row).is_some_and(|inode| inode.is_dir()),
            None => false,
        }
    }

    fn change(
        &mut self,
        index: &Index,
        parent: NodeId,
        name: &Name,
        set: impl FnOnce(&mut Listing),
    ) {
        let before = self.shows_directory(index, parent, name);
        if let Some(node) = self.get_mut(parent) {
            set(&mut node.listing);
        }
        let after = self.shows_directory(index, parent, name);
        if let Some(node) = self.get_mut(parent) {
            let count = &mut node.listing.subdirectories;
            match (before, after) {
                (false, true) => *count = count.saturating_add(1),
                (true, false) => *count = count.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// `name` in `parent` is now the object `id` of the upper.
    pub fn name_object(
        &mut self,
        index: &Index,
        parent: NodeId,
        name: &Name,
        id: NodeId,
        kind: u32,
    ) {
        let spot = self.spot(index, parent, name);
        let listed = self.get(parent).and_then(|node| node.listing.get(name));
        if !matches!(listed, Some(Entry::Object { id: 0, .. })) {
            self.names_given += 1;
        }
        self.change(index, parent, name, |listing| {
            listing.set_object(name, id, kind, spot)
        });
    }

    /// `name` was found in the upper's part of `parent` when that was read.
    pub fn found_object(&mut self, index: &Index, parent: NodeId, name: &Name, kind: u32) {
        let spot = self.spot(index, parent, name);
        self.change(index, parent, name, |listing| {
            listing.add_object(name, 0, kind, spot, 0)
        });
    }

    /// Place of `name` in listings of `parent`; `None` if the lower has it.
    fn spot(&self, index: &Index, parent: NodeId, name: &[u8]) -> Option<Spot> {
        let row = self.get(parent).and_then(|node| node.row);
        match self.in_lower(index, parent, name) {
            Some(_) => None,
            None => Some(Spot::of(name, row.map_or(0, |row| index.entry_count(row)))),
        }
    }

    /// The upper has a whiteout for `name` in `parent`.
    pub fn hide(&mut self, index: &Index, parent: NodeId, name: &Name) {
        self.change(index, parent, name, |listing| listing.set_whiteout(name));
    }

    /// Removes `name` from `parent`: hides it if the lower has it.
    pub fn unname(&mut self, index: &Index, parent: NodeId, name: &Name) {
        let hides = self.in_lower(index, parent, name).is_some();
        self.change(index, parent, name, |listing| {
            if hides {
                listing.set_whiteout(name)
            } else {
                listing.clear(name)
            }
        });
    }

    /// True if the merged directory `id` shows no entry. It is in the tree.
    pub fn is_empty_directory(&self, index: &Index, id: NodeId) -> bool {
        let Some(node) = self.get(id) else {
            return true;
        };
        if node.listing.has_objects() {
            return false;
        }
        node.row.is_none_or(|row| {
            index.entries(row, 0).all(|entry| {
                entry.child == Child::Whiteout || node.listing.get(entry.name).is_some()
            })
        })
    }
}
