//! File handles (name_to_handle_at, NFS): the kernel has a number and a generation, and the object
//! may not have been looked up since the mount. A number never opens an object with another
//! generation.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, Mode, OFlags};

use super::reply::{Attr, NodeId, ROOT_ID, lower_id};
use super::tree::{Name, Node, Tree};
use super::{LayerFs, lock};
use crate::error::Result;
use crate::names::Names;
use crate::sys::directory::{self, RawEntry};
use crate::sys::object::At;
use crate::sys::{Errno, handle};
use crate::upper::Upper;

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Number of searches of the upper for one object, which may be moved meanwhile.
const SEARCHES_MAX: usize = 4;

/// The upper's directory of each object: filled when an object is requested that is neither known
/// nor at its place in the lower, and again when there are new names.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    /// Each directory's parent, as a position here, and its name; first the root.
    directories: Vec<(usize, Name)>,
    objects: HashMap<NodeId, usize>,
    /// Directories that do not have their usual number, by their number in the upper.
    kept: HashMap<u64, NodeId>,
    /// [`Tree::names_given`] when the search began.
    as_of: u64,
}

impl Whereabouts {
    /// The names that lead from the root to the directory at `position`.
    fn path(&self, position: usize) -> Vec<Name> {
        let mut path = Vec::new();
        let mut at = position;
        while let Some((parent, name)) = self.directories.get(at).filter(|_| at != 0) {
            path.push(Arc::clone(name));
            at = *parent;
        }
        path.reverse();
        path
    }
}

impl LayerFs {
    /// The generation of a node: with its number it identifies one object forever. That of the root
    /// is 0 (the kernel's rule).
    pub(super) fn generation(&self, id: NodeId, node: Option<&Node>) -> u32 {
        match self.numbers.row_of(id) {
            _ if id == ROOT_ID => 0,
            Some(row) => self.lower().generation(row),
            None => node.map_or(0, |node| node.generation),
        }
    }

    /// The generation of an object that only the upper has. If its file system has none, a handle
    /// is valid as long as the node.
    pub(super) fn upper_generation(&self, at: &At<'_>) -> u32 {
        let by_birth = self.upper.as_ref().is_some_and(Upper::uses_numbers_once);
        let known = at.as_owner(|| match by_birth {
            true => at.stat_with_birth().map(|stat| handle::of_birth(&stat)),
            false => handle::generation(at),
        });
        known.unwrap_or_else(|_| self.next_generation.fetch_add(1, Ordering::Relaxed))
    }

    /// The attributes of a new object of the upper, with its generation and its number there.
    pub(super) fn first_attributes(&self, at: &At<'_>) -> Result<Attr> {
        if self.upper()?.uses_numbers_once() {
            let stat = at.stat_with_birth()?;
            return Ok(Attr {
                generation: handle::of_birth(&stat),
                ..Attr::from_statx(stat.stx_ino, &stat)
            });
        }
        let stat = at.stat()?;
        Ok(Attr {
            generation: self.upper_generation(at),
            ..Attr::from_stat(stat.st_ino, &stat)
        })
    }

    /// The object of a handle, if it is known or at its place in the lower; counted like
    /// [`LayerFs::lookup`].
    ///
    /// # Errors
    /// ESTALE if it does not exist, or the error of the upper's file system.
    pub fn lookup_self(&self, id: NodeId) -> Result<Option<Attr>> {
        let row = self.numbers.row_of(id);
        if self.upper.is_none() {
            return self
                .looked_up_lower(&self.lower(), row.ok_or(Errno::STALE)?)
                .map(Some);
        }
        {
            let tree = self.read_tree();
            if tree.get(id).is_some() {
                return self.looked_up(&tree, id).map(Some);
            }
        }
        let Some(row) = row.filter(|row| *row < self.lower().index.inode_count()) else {
            return Ok(None);
        };
        let mut tree = self.write_tree();
        loop {
            let mut lost = false;
            let lower = self.lower();
            for place in lower.names().places(row) {
                let Some(parent) = self.locate(&mut tree, place.dir)? else {
                    lost = true;
                    continue;
                };
                let name = Names::name(&lower.index, place);
                if self.visible(&mut tree, parent, name)? == Some(id) {
                    return self.looked_up(&tree, id).map(Some);
                }
            }
            if !lost || !self.find_moved(&mut tree)? {
                return Ok(None);
            }
        }
    }

    /// The parent of directory `id`; counted like [`LayerFs::lookup`].
    ///
    /// # Errors
    /// ESTALE if it has none, or the error of the upper's file system.
    pub fn lookup_parent(&self, id: NodeId) -> Result<Attr> {
        let parent = self.parent_of(id)?.ok_or(Errno::STALE)?;
        self.looked_up(&self.read_tree(), parent)
    }

    /// Looks up an object like [`LayerFs::lookup_self`], by a search of the upper, which may take
    /// long. The tree is not locked meanwhile.
    ///
    /// # Errors
    /// ESTALE if it does not exist, or the error of the upper's file system.
    pub fn search_self(&self, id: NodeId) -> Result<Attr> {
        let mut whereabouts = lock(&self.whereabouts);
        for _ in 0..SEARCHES_MAX {
            let now = {
                let mut tree = self.write_tree();
                let known = whereabouts.objects.get(&id);
                let path = known.map(|position| whereabouts.path(*position));
                if let Some(path) = path
                    && self.find_below(&mut tree, &path, id)?
                {
                    return self.looked_up(&tree, id);
                }
                tree.names_given
            };
            let is_new = whereabouts.directories.is_empty();
            if !is_new && whereabouts.as_of == now {
                return Err(Errno::STALE.into());
            }
            *whereabouts = self.search_upper(now)?;
        }
        Err(Errno::STALE.into())
    }

    /// True if object `id` is in the directory at `path`; it then has a node, or is a row.
    fn find_below(&self, tree: &mut Tree, path: &[Name], id: NodeId) -> Result<bool> {
        let mut dir = ROOT_ID;
        for name in path {
            match self.visible(tree, dir, name)? {
                Some(next) if tree.get(next).is_some_and(Node::is_dir) => dir = next,
                _ => return Ok(false),
            }
        }
        let fd = self.directory(tree, dir)?;
        for entry in At::Open(Arc::clone(&fd)).as_owner(|| directory::list(fd.as_fd()))? {
            let is_it = match self.numbers.row_of(id) {
                _ if tree.kept_numbers.of_upper(entry.number) == Some(id) => true,
                None => self.numbers.upper_id(entry.number) == id,
                Some(_) => self.claims(&fd, &entry).any(|claimed| claimed == id),
            };
            if is_it && self.visible(tree, dir, &entry.name)? == Some(id) {
                return Ok(true);
            }
        }
        self.release(tree, dir);
        Ok(false)
    }

    /// The nodes that an entry of the upper may be.
    fn claims(&self, dir: &Arc<OwnedFd>, entry: &RawEntry) -> impl Iterator<Item = NodeId> + use<> {
        let own = self.numbers.upper_id(entry.number);
        let origin = match (&self.upper, entry.kind) {
            (Some(upper), kind) if kind != FileType::Directory => {
                let at = At::Name(Arc::clone(dir), &entry.name);
                let value = at.xattr(&upper.marks.origin).ok();
                value.and_then(|value| self.lower().origins.row(&value))
            }
            _ => None,
        };
        [Some(own), origin.map(lower_id)].into_iter().flatten()
    }

    /// Walks through the upper, with two descriptors at any depth.
    fn search_upper(&self, as_of: u64) -> Result<Whereabouts> {
        let upper = self.upper()?;
        let mut found = Whereabouts {
            directories: vec![(0, Arc::from(&b""[..]))],
            objects: HashMap::new(),
            kept: self.read_tree().kept_numbers.iter().collect(),
            as_of,
        };
        let open = |dir: &OwnedFd, name: &[u8]| rustix::fs::openat(dir, name, OPEN, Mode::empty());
        let mut here = Arc::new(open(&upper.root(), b".")?);
        let (mut at, mut left) = (0, vec![self.note_directory(&mut found, &here, 0)?]);
        while let Some(level) = left.last_mut() {
            let Some(name) = level.pop() else {
                left.pop();
                if !left.is_empty() {
                    here = Arc::new(open(&here, b"..")?);
                    at = found.directories.get(at).map_or(0, |(parent, _)| *parent);
                }
                continue;
            };
            match open(&here, &name) {
                Ok(child) => here = Arc::new(child),
                // Removed meanwhile, or unreadable for the owner of an ordinary user's mount.
                Err(Errno::NOTDIR | Errno::NOENT | Errno::ACCESS | Errno::LOOP) => continue,
                Err(errno) => return Err(errno.into()),
            }
            found.directories.push((at, name));
            at = found.directories.len() - 1;
            left.push(self.note_directory(&mut found, &here, at)?);
        }
        Ok(found)
    }

    /// Records the objects of one directory; returns the names in it that may be directories.
    fn note_directory(
        &self,
        found: &mut Whereabouts,
        dir: &Arc<OwnedFd>,
        position: usize,
    ) -> Result<Vec<Name>> {
        let mut below = Vec::new();
        for entry in directory::list(dir.as_fd())? {
            let kept = found.kept.get(&entry.number).copied();
            for claimed in self.claims(dir, &entry).chain(kept) {
                found.objects.insert(claimed, position);
            }
            if matches!(entry.kind, FileType::Directory | FileType::Unknown) {
                below.push(Arc::from(entry.name));
            }
        }
        Ok(below)
    }
}
