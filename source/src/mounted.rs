//! A file system with others mounted in it, as one tree.

use std::collections::HashMap;
use std::io;

use super::walk::{FileSystem, Mounts, WalkKind, WalkObject, damaged, find_directory, mount_over};

/// Numbers from here on denote objects of mounted file systems; no file system has so large ones,
/// except btrfs for directories in place of subvolumes.
const FIRST: u64 = 0xfffe << 48;
const COUNT_MAX: usize = 1 << 47;

/// A tree of several file systems.
pub(crate) struct MountedTree {
    /// The root file system, and then those mounted in it.
    systems: Vec<Box<dyn FileSystem>>,
    /// Mount points, by the number of the directory and the name in it, with the roots on them.
    mounts: Mounts,
    /// The objects of mounted file systems, by their numbers from [`FIRST`] on.
    objects: Vec<(usize, u64)>,
    numbers: HashMap<(usize, u64), u64>,
}

impl MountedTree {
    /// A tree of one file system.
    pub(crate) fn new(root: Box<dyn FileSystem>) -> Self {
        MountedTree {
            systems: vec![root],
            mounts: Mounts::new(),
            objects: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Mounts a file system at a path. A text if the path cannot be a mount point.
    ///
    /// # Errors
    /// The tree is damaged.
    pub(crate) fn mount(
        &mut self,
        path: &[String],
        system: Box<dyn FileSystem>,
    ) -> io::Result<Result<(), &'static str>> {
        let Some((name, parents)) = path.split_last() else {
            return Ok(Err("it is the root"));
        };
        let Some(directory) = find_directory(self, parents)? else {
            return Ok(Err("the parent of this directory is missing"));
        };
        let names = self.list(directory)?;
        if let Some((_, here)) = names.iter().find(|(known, _)| known == name.as_bytes())
            && !matches!(self.object(*here)?.kind, WalkKind::Directory)
        {
            return Ok(Err("it is not a directory"));
        }
        let root = system.root();
        self.systems.push(system);
        let root = self.number(self.systems.len() - 1, root)?;
        self.mounts
            .insert((directory, name.clone().into_bytes()), root);
        Ok(Ok(()))
    }

    /// The number in the tree of an object of a file system.
    fn number(&mut self, system: usize, number: u64) -> io::Result<u64> {
        if system == 0 {
            return Ok(number);
        }
        if let Some(known) = self.numbers.get(&(system, number)) {
            return Ok(*known);
        }
        if self.objects.len() >= COUNT_MAX {
            return Err(damaged("it has too many objects"));
        }
        let new = FIRST + self.objects.len() as u64;
        self.objects.push((system, number));
        self.numbers.insert((system, number), new);
        Ok(new)
    }

    /// The file system of an object, and its number there.
    fn place(&mut self, number: u64) -> io::Result<(usize, &mut Box<dyn FileSystem>, u64)> {
        let index = number.checked_sub(FIRST);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let found = index.and_then(|index| self.objects.get(index));
        let (system, number) = found.copied().unwrap_or((0, number));
        let tree = self.systems.get_mut(system);
        let tree = tree.ok_or_else(|| damaged("an unknown file system"))?;
        Ok((system, tree, number))
    }
}

impl FileSystem for MountedTree {
    fn root(&self) -> u64 {
        self.systems.first().map_or(0, |system| system.root())
    }

    fn list(&mut self, directory: u64) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let (system, tree, inside) = self.place(directory)?;
        let mut names = tree.list(inside)?;
        for (_, number) in &mut names {
            *number = self.number(system, *number)?;
        }
        mount_over(&mut names, &self.mounts, directory);
        Ok(names)
    }

    fn object(&mut self, number: u64) -> io::Result<WalkObject> {
        let (_, tree, inside) = self.place(number)?;
        tree.object(inside)
    }

    fn read_at(&mut self, number: u64, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, tree, inside) = self.place(number)?;
        tree.read_at(inside, offset, buffer)
    }

    fn notes(&mut self) -> Vec<String> {
        let systems = self.systems.iter_mut();
        systems.flat_map(|system| system.notes()).collect()
    }
}
