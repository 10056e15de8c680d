//! The objects that are in the upper, as far as the kernel knows them. What is only in the lower
//! has no entry here: its number is its row.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use layerfmt::{Child, Index, Ino};

use super::change_time::ChangeTime;
use super::copy_data::Kept;
use super::protection::Protection;
use super::reply::{DIRECTORY, NodeId};

/// A name, shared between the listing and the node.
pub type Name = Arc<[u8]>;

/// What an upper directory says about one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Hidden.
    Whiteout,
    /// An object of the upper.
    Object {
        /// Its node, 0 while nobody has asked. Not 0 means: the node is in the tree.
        id: NodeId,
        /// Type bits.
        kind: u32,
        /// Place in the listing.
        cookie: u64,
    },
}

/// The upper's part of a directory, complete.
#[derive(Debug, Default)]
pub struct Listing {
    names: BTreeMap<Name, Entry>,
    order: BTreeMap<u64, Name>,
    next_cookie: u64,
    /// Visible subdirectories, those of the lower included.
    pub subdirectories: u32,
    /// Whether new objects get their permissions from a default ACL; `None`: not asked yet.
    pub default_acl: Option<bool>,
}

impl Listing {
    /// What the upper says about `name`.
    pub fn get(&self, name: &[u8]) -> Option<Entry> {
        self.names.get(name).copied()
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.names.iter()
    }

    /// Objects (not whiteouts) from cookie `from` on, in the order they came.
    pub fn objects_from(&self, from: u64) -> impl Iterator<Item = (u64, &Name, Entry)> {
        self.order
            .range(from..)
            .filter_map(|(cookie, name)| self.names.get(name).map(|entry| (*cookie, name, *entry)))
    }

    /// Whether an object (not a whiteout) is here.
    pub fn has_objects(&self) -> bool {
        !self.order.is_empty()
    }

    fn take(&mut self, name: &[u8]) -> Option<Entry> {
        let entry = self.names.remove(name)?;
        if let Entry::Object { cookie, .. } = entry {
            self.order.remove(&cookie);
        }
        Some(entry)
    }

    /// Set what `name` is. An object that replaces another keeps its place in listings.
    pub fn set_object(&mut self, name: &Name, id: NodeId, kind: u32) {
        let cookie = match self.take(name) {
            Some(Entry::Object { cookie, .. }) => cookie,
            _ => {
                self.next_cookie += 1;
                self.next_cookie
            }
        };
        self.order.insert(cookie, Arc::clone(name));
        self.names
            .insert(Arc::clone(name), Entry::Object { id, kind, cookie });
    }

    /// Hide `name`.
    pub fn set_whiteout(&mut self, name: &Name) {
        self.take(name);
        self.names.insert(Arc::clone(name), Entry::Whiteout);
    }

    /// The upper has nothing by this name any more.
    pub fn clear(&mut self, name: &[u8]) {
        self.take(name);
    }
}

/// An object the upper has, or a lower object that lost its last name.
#[derive(Debug, Default)]
pub struct Node {
    /// Type bits.
    pub kind: u32,
    /// Where it is named; empty: nowhere (or the root). Names nobody looked up are missing.
    pub names: Vec<(NodeId, Name)>,
    /// Keeps an object of the upper that has no known name.
    pub orphan: Option<Arc<OwnedFd>>,
    /// Whether the upper has it at all.
    pub in_upper: bool,
    /// Directory: the lower directory it is merged with. File: where its data still is.
    pub row: Option<Ino>,
    /// The inode number in the upper.
    pub number: u64,
    /// A directory that is not where the lower has it: found by its row only as long as it has this node.
    pub moved: bool,
    /// The device a stand-in means.
    pub device: Option<(u32, u32)>,
    /// How often the kernel was told of it; rows are counted apart.
    pub lookups: AtomicU32,
    /// A file of the upper that certainly has no `security.capability`: the kernel asks at the first write to each.
    pub incapable: bool,
    /// What protects it (chattr).
    pub protection: Protection,
    /// A directory's part in the upper.
    pub listing: Listing,
    /// While a file's data is copied: what it shall have afterwards. Boxed: there are many nodes, and few such files.
    pub kept: Mutex<Option<Box<Kept>>>,
    /// What is shown in place of a change time that a copy-up changed. Boxed, as that.
    pub change_time: Mutex<Option<Box<ChangeTime>>>,
}

impl Node {
    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == DIRECTORY
    }
}

/// What a name in the merged tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visible {
    /// An object of the upper; its node's number if somebody asked, else 0.
    Upper {
        /// See [`Entry::Object`].
        id: NodeId,
        /// Type bits.
        kind: u32,
    },
    /// A row of the lower.
    Lower(Ino),
}

/// All nodes by number.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: HashMap<NodeId, Node>,
    /// Whether the directories that were moved before this mount have their nodes.
    pub moved_are_known: bool,
}

impl Tree {
    /// The node `id`, if the upper has (or had) it.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// As [`Tree::get`], to change it.
    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }

    /// Add a node.
    pub fn insert(&mut self, id: NodeId, node: Node) {
        self.nodes.insert(id, node);
    }

    /// Whether some object of the upper has lost its last name and is still held.
    pub fn has_nameless(&self) -> bool {
        self.nodes.values().any(|node| node.orphan.is_some())
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
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

    /// Whether some entry of `node` is in the tree.
    pub fn has_known_child(node: &Node) -> bool {
        node.listing
            .names
            .values()
            .any(|entry| matches!(entry, Entry::Object { id, .. } if *id != 0))
    }

    /// What `name` in directory `parent` is in the lower it is merged with.
    pub fn in_lower(&self, index: &Index, parent: NodeId, name: &[u8]) -> Option<Ino> {
        let row = self.get(parent)?.row?;
        match index.lookup(row, name)?.child {
            Child::Inode(row) => Some(row),
            Child::Whiteout => None,
        }
    }

    /// What `name` in `parent` is. `parent` is in the tree.
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
        self.change(index, parent, name, |listing| {
            listing.set_object(name, id, kind)
        });
    }

    /// The upper has a whiteout for `name` in `parent`.
    pub fn hide(&mut self, index: &Index, parent: NodeId, name: &Name) {
        self.change(index, parent, name, |listing| listing.set_whiteout(name));
    }

    /// `name` in `parent` is gone: hidden if the lower has it.
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

    /// Whether the merged directory `id` shows nothing. It is in the tree.
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
