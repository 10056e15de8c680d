//! Subvolumes: trees of files that are named inside one another.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::names::{DIR_INDEX, DIR_ITEM, names};
use super::tree::{ItemKey, TreePointer, Trees};
use crate::fields::{byte, le16, le64, slice};
use crate::walk::{damaged, unknown};

/// The subvolume that holds the others.
pub(super) const TOP: u64 = 5;
/// The root directory of each subvolume.
const ROOT_DIRECTORY: u64 = 256;
/// Kinds of items in the tree of roots: a root, and the name of a subvolume in another.
const ROOT_ITEM: u8 = 132;
const ROOT_REF: u8 = 156;
/// Bits of the number of an object within its subvolume.
const OBJECT_BITS: u32 = 48;
/// Denotes empty directories instead of a subvolume.
const EMPTY_INDEX: u64 = 0xffff;
/// Most subvolumes. Larger numbers of objects are for trees of several file systems.
const SUBVOLUMES_MAX: u64 = 0xfffe;

/// The name of a subvolume in its parent.
#[derive(Debug, Clone)]
pub(super) struct SubvolumeName {
    /// The subvolume that holds it, and its directory there.
    pub(super) parent: u64,
    pub(super) directory: u64,
    pub(super) name: Vec<u8>,
}

/// The subvolumes of a file system. The number of an object is unique among all subvolumes.
#[derive(Debug, Default)]
pub(super) struct Subvolumes {
    /// Trees of files, in the order in which they were found, with their subvolumes.
    opened: Vec<(u64, TreePointer)>,
    by_id: HashMap<u64, u64>,
    names: BTreeMap<u64, SubvolumeName>,
    /// Directories in place of the subvolumes of a snapshot's source, by their parents' numbers.
    empty: Vec<u64>,
}

/// An object: in a subvolume, or a directory without a subvolume.
#[derive(Debug, Clone, Copy)]
pub(super) enum ObjectPlace {
    /// The subvolume's identity, its tree, and the object in it.
    In(u64, TreePointer, u64),
    /// An empty directory, in the directory of this number.
    Empty(u64),
}

impl Subvolumes {
    /// Reads the names of all subvolumes.
    pub(super) fn read(trees: &mut Trees) -> io::Result<Self> {
        let mut subvolumes = Subvolumes::default();
        let range = (ItemKey::first(0, 0), ItemKey::last(u64::MAX, u8::MAX));
        let names = &mut subvolumes.names;
        trees.scan(trees.superblock.roots, range, &mut |key, item| {
            if key.kind == ROOT_REF {
                let name = SubvolumeName {
                    parent: key.object,
                    directory: le64(item, 0)?,
                    name: slice(item, 18, usize::from(le16(item, 16)?))?.to_vec(),
                };
                names.insert(key.offset, name);
            }
            Ok(())
        })?;
        Ok(subvolumes)
    }

    /// The names of the subvolumes, with their identities.
    pub(super) fn names(&self) -> impl Iterator<Item = (u64, &SubvolumeName)> {
        self.names.iter().map(|(id, name)| (*id, name))
    }

    /// True if there is a subvolume of this identity.
    pub(super) fn is_known(&self, id: u64) -> bool {
        id == TOP || self.names.contains_key(&id)
    }

    /// The identity of the subvolume of an object.
    pub(super) fn id_of(&self, number: u64) -> io::Result<u64> {
        match self.place(number)? {
            ObjectPlace::In(id, ..) => Ok(id),
            ObjectPlace::Empty(_) => Err(damaged("an unknown subvolume")),
        }
    }

    /// True if the subvolume `outer` is `inner` or contains it.
    pub(super) fn contains(&self, outer: u64, inner: u64) -> bool {
        let mut id = inner;
        // A chain of parents that is longer than the list of names has a loop.
        for _ in 0..=self.names.len() {
            if id == outer {
                return true;
            }
            match self.names.get(&id) {
                Some(name) => id = name.parent,
                None => break,
            }
        }
        false
    }

    /// True for the number of the root directory of a subvolume.
    pub(super) fn is_root(number: u64) -> bool {
        let (index, object) = parts(number);
        index != EMPTY_INDEX && object == ROOT_DIRECTORY
    }

    /// The subvolume that a mount shows: the default one, else the one that holds the others.
    pub(super) fn default_one(trees: &mut Trees) -> io::Result<u64> {
        let directory = trees.superblock.default_directory;
        let mut found = TOP;
        let range = (
            ItemKey::first(directory, DIR_ITEM),
            ItemKey::last(directory, DIR_ITEM),
        );
        trees.scan(trees.superblock.roots, range, &mut |_, item| {
            for entry in names(item) {
                let entry = entry?;
                if entry.name == b"default" {
                    found = entry.target.object;
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The number of the root directory of a subvolume.
    pub(super) fn root(&mut self, trees: &mut Trees, id: u64) -> io::Result<u64> {
        if let Some(index) = self.by_id.get(&id) {
            return Ok(index << OBJECT_BITS | ROOT_DIRECTORY);
        }
        let index = self.opened.len() as u64;
        if index >= SUBVOLUMES_MAX {
            return Err(unknown("it has too many subvolumes"));
        }
        let pointer = tree_of(trees, id)?;
        self.opened.push((id, pointer));
        self.by_id.insert(id, index);
        Ok(index << OBJECT_BITS | ROOT_DIRECTORY)
    }

    /// The object with this number.
    pub(super) fn place(&self, number: u64) -> io::Result<ObjectPlace> {
        let (index, object) = parts(number);
        if index == EMPTY_INDEX {
            let parent = self
                .empty
                .get(usize::try_from(object).unwrap_or(usize::MAX));
            let parent = parent.ok_or_else(|| damaged("an unknown directory"))?;
            return Ok(ObjectPlace::Empty(*parent));
        }
        let opened = self
            .opened
            .get(usize::try_from(index).unwrap_or(usize::MAX));
        let (id, pointer) = opened.ok_or_else(|| damaged("an unknown subvolume"))?;
        Ok(ObjectPlace::In(*id, *pointer, object))
    }

    /// The number of the object that a directory shows for the subvolume `id`: its root directory, or an empty
    /// directory if the subvolume belongs to another place. A snapshot has such directories.
    pub(super) fn entry(
        &mut self,
        trees: &mut Trees,
        (directory, name): (u64, &[u8]),
        id: u64,
    ) -> io::Result<u64> {
        let ObjectPlace::In(parent, _, object) = self.place(directory)? else {
            return Err(damaged("an unknown directory"));
        };
        let is_here = self.names.get(&id).is_some_and(|known| {
            known.parent == parent && known.directory == object && known.name == name
        });
        if is_here {
            return self.root(trees, id);
        }
        self.empty.push(directory);
        Ok(EMPTY_INDEX << OBJECT_BITS | (self.empty.len() as u64 - 1))
    }

    /// The names in a directory.
    pub(super) fn list(
        &mut self,
        trees: &mut Trees,
        number: u64,
    ) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let ObjectPlace::In(_, pointer, object) = self.place(number)? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let range = (
            ItemKey::first(object, DIR_INDEX),
            ItemKey::last(object, DIR_INDEX),
        );
        trees.scan(pointer, range, &mut |_, item| {
            for entry in names(item) {
                let entry = entry?;
                found.push((entry.name.to_vec(), entry.target));
            }
            Ok(())
        })?;
        let mut names = Vec::new();
        for (name, target) in found {
            let object = match target.kind {
                ROOT_ITEM => self.entry(trees, (number, &name), target.object)?,
                _ => same_subvolume(number, target.object)?,
            };
            names.push((name, object));
        }
        Ok(names)
    }
}

/// Subvolume and object of a number.
fn parts(number: u64) -> (u64, u64) {
    (number >> OBJECT_BITS, number & ((1 << OBJECT_BITS) - 1))
}

/// The number of an object of the subvolume with the object `beside`.
fn same_subvolume(beside: u64, object: u64) -> io::Result<u64> {
    if object >> OBJECT_BITS != 0 {
        return Err(damaged(format!("there is no object {object}")));
    }
    Ok(beside >> OBJECT_BITS << OBJECT_BITS | object)
}

/// The tree with this identity.
pub(super) fn tree_of(trees: &mut Trees, id: u64) -> io::Result<TreePointer> {
    let found = trees.floor(trees.superblock.roots, ItemKey::last(id, ROOT_ITEM))?;
    let found = found.filter(|(key, _)| key.object == id && key.kind == ROOT_ITEM);
    let (_, item) = found.ok_or_else(|| damaged(format!("it has no tree {id}")))?;
    Ok(TreePointer::root(
        le64(&item, 176)?,
        byte(&item, 238)?,
        le64(&item, 160)?,
    ))
}
