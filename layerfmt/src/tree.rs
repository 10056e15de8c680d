//! The in-memory model of a tree of changes.
//!
//! A `Tree` is a whole tree or the difference against one: a directory entry may be a *whiteout*
//! (hides the name below) and a directory may be *opaque* (hides all names below). `C` is the
//! content of a regular file: [`crate::writer::Content`] while baking, plain bytes in models and
//! tests.

pub mod apply;
pub mod diff;
pub mod from_index;
pub mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::name::Name;
pub use crate::time::Time;

/// Extended attributes: full name to value, in name order.
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Attributes of every object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: `mode & 0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Extended attributes; shared, as most objects have none or the same.
    pub xattrs: Option<Arc<Xattrs>>,
}

impl Metadata {
    /// The attributes in name order; none gives an empty iterator.
    pub fn xattrs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.xattrs
            .iter()
            .flat_map(|set| set.iter())
            .map(|(name, value)| (&**name, &**value))
    }
}

/// Number of a node in its tree's arena; 0 is the root directory.
pub type NodeId = u32;

/// The root directory of every tree.
pub const ROOT: NodeId = 0;

/// The target of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Child {
    /// Hides the name in lower layers.
    Whiteout,
    /// The object with this number. Several entries with one number are hard links.
    Node(NodeId),
}

/// A directory's own part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Hides all names of lower layers.
    pub opaque: bool,
    /// Entries in bytewise name order.
    pub entries: BTreeMap<Name, Child>,
}

/// The kind of an object with the fields of that kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<C> {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    File(C),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl<C> Kind<C> {
    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self, Kind::Directory(_))
    }
}

/// One object of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node<C> {
    /// Attributes of every object.
    pub meta: Metadata,
    /// Fields of one kind of object.
    pub kind: Kind<C>,
}

/// A tree, or a tree of changes. Nodes live in an arena; node 0 is the root directory.
///
/// Invariants: node 0 is a directory; every directory but the root is the child of exactly one
/// directory; nodes may be unreachable (they are then ignored).
#[derive(Debug, Clone)]
pub struct Tree<C> {
    nodes: Vec<Node<C>>,
}

/// The reason why an entry could not be added to a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeError {
    /// The parent is not a directory of this tree.
    NotADirectory,
    /// A directory cannot have a second name.
    DirectoryHardLink,
    /// More nodes than an index can number.
    TooManyNodes,
}

impl std::fmt::Display for TreeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TreeError::NotADirectory => "the parent is not a directory",
            TreeError::DirectoryHardLink => "a directory cannot be hard linked",
            TreeError::TooManyNodes => "too many objects in one tree",
        })
    }
}

impl std::error::Error for TreeError {}

impl<C> Tree<C> {
    /// A tree with an empty root directory of the given metadata.
    pub fn new(root: Metadata) -> Self {
        Tree {
            nodes: vec![Node {
                meta: root,
                kind: Kind::Directory(Directory::default()),
            }],
        }
    }

    /// The node with number `id`.
    pub fn node(&self, id: NodeId) -> Option<&Node<C>> {
        self.nodes.get(id as usize)
    }

    /// The node with number `id`, to change. Turning a directory with entries into something
    /// else drops its entries from the tree.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut Node<C>> {
        self.nodes.get_mut(id as usize)
    }

    /// The number of nodes in the arena, reachable or not.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The directory part of node `id`, if it is a directory.
    pub fn directory(&self, id: NodeId) -> Option<&Directory> {
        match &self.node(id)?.kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// The directory part of node `id`, to change.
    pub fn directory_mut(&mut self, id: NodeId) -> Option<&mut Directory> {
        match &mut self.node_mut(id)?.kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Put a node into the arena, still without a name.
    ///
    /// # Errors
    /// [`TreeError::TooManyNodes`] when an index could not number it.
    pub fn add(&mut self, node: Node<C>) -> Result<NodeId, TreeError> {
        let id = u32::try_from(self.nodes.len()).map_err(|_| TreeError::TooManyNodes)?;
        if id >= crate::limits::INODES_MAX {
            return Err(TreeError::TooManyNodes);
        }
        self.nodes.push(node);
        Ok(id)
    }

    /// Adds a name for a child of `parent`, replacing the previous object of that name.
    ///
    /// # Errors
    /// `parent` is not a directory.
    pub fn set(&mut self, parent: NodeId, name: Name, child: Child) -> Result<(), TreeError> {
        let directory = self.directory_mut(parent).ok_or(TreeError::NotADirectory)?;
        directory.entries.insert(name, child);
        Ok(())
    }

    /// [`Tree::add`] and [`Tree::set`] in one.
    ///
    /// # Errors
    /// The errors of both.
    pub fn insert(
        &mut self,
        parent: NodeId,
        name: Name,
        node: Node<C>,
    ) -> Result<NodeId, TreeError> {
        if self.directory(parent).is_none() {
            return Err(TreeError::NotADirectory);
        }
        let id = self.add(node)?;
        self.set(parent, name, Child::Node(id))?;
        Ok(id)
    }

    /// The target of `name` in directory `parent`.
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<Child> {
        self.directory(parent)?.entries.get(name).copied()
    }

    /// The node at `path` (components separated by `/`; empty or `/` is the root).
    pub fn resolve(&self, path: &[u8]) -> Option<NodeId> {
        path.split(|&b| b == b'/')
            .filter(|part| !part.is_empty())
            .try_fold(ROOT, |dir, part| match self.child(dir, part)? {
                Child::Node(id) => Some(id),
                Child::Whiteout => None,
            })
    }
}
