//! Subvolumes that the system's `etc/fstab` mounts: the tree shows them at their mount points, as a
//! boot does. Fedora and openSUSE keep `/var` and `/home` in such subvolumes.

use std::io;

use super::Btrfs;
use super::subvolumes::{ObjectPlace, Subvolumes};
use crate::fstab::{self, FSTAB, FstabLine, MountedSubvolume};
use crate::walk::{FileSystem as _, WalkKind, find_directory};

impl Btrfs {
    /// The lines for btrfs in the `etc/fstab` of the tree.
    pub(super) fn fstab(&mut self) -> io::Result<Vec<FstabLine>> {
        let mut lines = fstab::read(self)?;
        lines.retain(|line| matches!(line.kind.as_str(), "btrfs" | "auto"));
        Ok(lines)
    }

    /// The root directory of the subvolume that a line mounts.
    pub(super) fn subvolume_of(&mut self, line: &FstabLine) -> io::Result<Option<u64>> {
        let id = match &line.subvolume {
            MountedSubvolume::Path(path) => return self.named(path),
            MountedSubvolume::Id(id) => *id,
            MountedSubvolume::Default => Subvolumes::default_one(&mut self.trees)?,
        };
        if !self.subvolumes.is_known(id) {
            return Ok(None);
        }
        self.subvolumes.root(&mut self.trees, id).map(Some)
    }

    /// Mounts the subvolumes of this file system that `etc/fstab` mounts below `/`.
    pub(super) fn mount(&mut self) -> io::Result<()> {
        let mut lines = self.fstab()?;
        let root = lines.iter().find(|line| line.is_root());
        let root = root.map(|line| line.device.clone());
        lines.retain(|line| {
            let is_same = root.as_ref() == Some(&line.device);
            !line.is_root() && (is_same || self.trees.superblock.has_name(&line.device))
        });
        // As at a boot, outer directories first.
        lines.sort_by_key(|line| line.place.len());
        let mut roots = vec![self.root];
        let mut mounted = Vec::new();
        for line in &lines {
            match self.mount_line(line, &mut roots)? {
                Ok(true) => mounted.push(line.path()),
                Ok(false) => {}
                Err(problem) => {
                    let note = format!(
                        "{FSTAB} mounts {}, which is not read: {problem}",
                        line.path()
                    );
                    self.notes.push(note);
                }
            }
        }
        if !mounted.is_empty() {
            let note = format!(
                "{} are subvolumes, mounted as in {FSTAB}",
                mounted.join(", ")
            );
            self.notes.push(note);
        }
        Ok(())
    }

    /// Mounts one line. False if the subvolume is at its place already; a text if it is not
    /// mounted.
    fn mount_line(
        &mut self,
        line: &FstabLine,
        roots: &mut Vec<u64>,
    ) -> io::Result<Result<bool, &'static str>> {
        let Some(subvolume) = self.subvolume_of(line)? else {
            return Ok(Err("there is no such subvolume"));
        };
        let Some((name, parents)) = line.place.split_last() else {
            return Ok(Ok(false));
        };
        let directory = find_directory(self, parents)?;
        let Some(directory) = directory.filter(|number| self.is_inside(*number)) else {
            return Ok(Err("the parent of this directory is missing"));
        };
        let name = name.as_bytes();
        let names = self.list(directory)?;
        if let Some((_, here)) = names.iter().find(|(known, _)| known == name) {
            if *here == subvolume {
                return Ok(Ok(false));
            }
            if !matches!(self.object(*here)?.kind, WalkKind::Directory) {
                return Ok(Err("it is not a directory"));
            }
        }
        for root in roots.iter() {
            if self.are_nested(*root, subvolume)? {
                return Ok(Err("a part of it has another place in the tree"));
            }
        }
        roots.push(subvolume);
        self.mounts.insert((directory, name.into()), subvolume);
        Ok(Ok(true))
    }

    /// False for the empty directory in place of a subvolume.
    fn is_inside(&self, directory: u64) -> bool {
        matches!(self.subvolumes.place(directory), Ok(ObjectPlace::In(..)))
    }

    /// True if one of two subvolumes contains the other, or is the other.
    fn are_nested(&self, one: u64, other: u64) -> io::Result<bool> {
        let (one, other) = (self.subvolumes.id_of(one)?, self.subvolumes.id_of(other)?);
        Ok(self.subvolumes.contains(one, other) || self.subvolumes.contains(other, one))
    }
}
