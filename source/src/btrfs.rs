//! btrfs file systems on one device, read in our own process.
//!
//! The code is our own, because the crates that read btrfs are young, and none verifies the
//! checksums of data. This reader verifies those of trees and of data, and reads the next copy
//! where one does not match. It shows the tree of a mount: the default subvolume, with the
//! subvolumes inside it as directories, and those that the system's `etc/fstab` mounts. A file
//! system whose log holds changes is refused, because the log is not replayed.

mod checksum;
mod choice;
mod compression;
mod data;
mod extents;
mod inode;
mod mounts;
mod names;
mod subvolumes;
mod superblock;
mod tree;
mod volume;

use std::collections::HashSet;
use std::io;

use layerfmt::tree::Metadata;

use self::data::DataReader;
use self::extents::{FileExtent, extents, segments};
use self::inode::BtrfsInode;
use self::subvolumes::{ObjectPlace, Subvolumes};
use self::superblock::BtrfsSuperblock;
use self::tree::{ItemKey, Trees};
use self::volume::BtrfsVolume;
use super::limits::BTRFS_TARGET_LEN_MAX;
use super::walk::{FileSystem, Mounts, WalkKind, WalkObject, damaged, mount_over};
use super::window::Window;

/// The kind of a chunk's item.
const CHUNK_ITEM: u8 = 228;
/// Mode of a directory that represents a subvolume of another place, as in a mount.
const EMPTY_MODE: u16 = 0o755;

/// A btrfs file system.
#[derive(Debug)]
pub struct Btrfs {
    trees: Trees,
    data: DataReader,
    subvolumes: Subvolumes,
    /// Number of the root directory.
    root: u64,
    /// Subvolumes on mount points, by the number of the directory and the name in it.
    mounts: Mounts,
    /// The last file read.
    current: Option<BtrfsFile>,
    /// The subvolumes of the directories that were listed.
    read: HashSet<u64>,
    notes: Vec<String>,
}

/// A file being read.
#[derive(Debug)]
struct BtrfsFile {
    number: u64,
    size: u64,
    extents: Vec<FileExtent>,
    has_sums: bool,
    /// Bytes read last, and their offset.
    decoded: (u64, Vec<u8>),
}

impl Btrfs {
    /// The file system in `image`, with the tree of `subvolume` (a path from the top), else of the
    /// one that a boot would mount.
    ///
    /// # Errors
    /// It is damaged, its log holds changes, it uses unsupported features, or several subvolumes
    /// could be the system.
    pub fn open(image: Window, subvolume: Option<&str>) -> io::Result<Self> {
        let superblock = BtrfsSuperblock::read(&image)?;
        let volume = BtrfsVolume::new(image, superblock.device, &superblock.first_chunks)?;
        let mut trees = Trees::new(volume, superblock);
        let mut chunks = Vec::new();
        let range = (ItemKey::first(0, 0), ItemKey::last(u64::MAX, u8::MAX));
        trees.scan(trees.superblock.chunks, range, &mut |key, item| {
            if key.kind == CHUNK_ITEM {
                chunks.push((key.offset, item.to_vec()));
            }
            Ok(())
        })?;
        trees.volume.clear();
        for (address, chunk) in chunks {
            trees.volume.add(address, &chunk)?;
        }
        let data = DataReader::new(&mut trees)?;
        let subvolumes = Subvolumes::read(&mut trees)?;
        let mut btrfs = Btrfs {
            trees,
            data,
            subvolumes,
            root: 0,
            mounts: Mounts::new(),
            current: None,
            read: HashSet::new(),
            notes: Vec::new(),
        };
        btrfs.choose(subvolume)?;
        btrfs.mount()?;
        btrfs.read.clear();
        Ok(btrfs)
    }

    /// The bytes of a file; `inode` is the object with this number.
    fn file(&mut self, number: u64, inode: &BtrfsInode) -> io::Result<BtrfsFile> {
        let ObjectPlace::In(_, tree, object) = self.subvolumes.place(number)? else {
            return Err(damaged("an unknown file"));
        };
        Ok(BtrfsFile {
            number,
            size: inode.size,
            extents: extents(&mut self.trees, tree, object, inode.size)?,
            has_sums: inode.has_sums(),
            decoded: (0, Vec::new()),
        })
    }

    /// The target of a symbolic link.
    fn target(&mut self, number: u64, inode: &BtrfsInode) -> io::Result<Box<[u8]>> {
        let wrong = || damaged("the target of a link is damaged");
        if inode.size == 0 || inode.size > BTRFS_TARGET_LEN_MAX {
            return Err(wrong());
        }
        let mut file = self.file(number, inode)?;
        let len = usize::try_from(inode.size).map_err(io::Error::other)?;
        let mut target = vec![0; len];
        let mut done = 0;
        while let Some(rest) = target.get_mut(done..).filter(|rest| !rest.is_empty()) {
            done += file.read(&mut self.trees, &mut self.data, done as u64, rest)?;
        }
        if target.contains(&0) {
            return Err(wrong());
        }
        Ok(target.into())
    }

    /// The directory that represents a subvolume of another place.
    fn empty(&mut self, parent: u64) -> io::Result<WalkObject> {
        let ObjectPlace::In(_, tree, object) = self.subvolumes.place(parent)? else {
            return Err(damaged("an unknown directory"));
        };
        let parent = BtrfsInode::read(&mut self.trees, tree, object)?;
        Ok(WalkObject {
            meta: Metadata {
                mode: EMPTY_MODE,
                xattrs: None,
                ..parent.meta
            },
            links: 1,
            kind: WalkKind::Directory,
        })
    }
}

impl BtrfsFile {
    /// At least one byte; holes are zeros.
    fn read(
        &mut self,
        trees: &mut Trees,
        data: &mut DataReader,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let (start, bytes) = &self.decoded;
        let inside = offset.checked_sub(*start);
        let inside = inside.filter(|inside| *inside < bytes.len() as u64);
        if inside.is_none() {
            let next = self
                .extents
                .partition_point(|extent| extent.end() <= offset);
            let extent = self.extents.get(next);
            let Some(extent) = extent.filter(|extent| extent.offset <= offset) else {
                // A hole, up to the next extent or the end.
                let end = extent.map_or(self.size, |extent| extent.offset);
                let len = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
                let len = len.min(buffer.len());
                buffer.get_mut(..len).unwrap_or_default().fill(0);
                return Ok(len);
            };
            let bytes = data.read(trees, extent, offset - extent.offset, self.has_sums)?;
            self.decoded = (offset, bytes);
        }
        let (_, bytes) = &self.decoded;
        let start = usize::try_from(inside.unwrap_or(0)).map_err(io::Error::other)?;
        let rest = bytes.get(start..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }
}

impl FileSystem for Btrfs {
    fn root(&self) -> u64 {
        self.root
    }

    fn list(&mut self, directory: u64) -> io::Result<Vec<(Vec<u8>, u64)>> {
        if let ObjectPlace::In(id, ..) = self.subvolumes.place(directory)? {
            self.read.insert(id);
        }
        let mut names = self.subvolumes.list(&mut self.trees, directory)?;
        mount_over(&mut names, &self.mounts, directory);
        Ok(names)
    }

    fn object(&mut self, number: u64) -> io::Result<WalkObject> {
        let (tree, object) = match self.subvolumes.place(number)? {
            ObjectPlace::In(_, tree, object) => (tree, object),
            ObjectPlace::Empty(parent) => return self.empty(parent),
        };
        let inode = BtrfsInode::read(&mut self.trees, tree, object)?;
        let kind = match inode.mode >> 12 {
            0o04 => WalkKind::Directory,
            0o10 => {
                let file = self.file(number, &inode)?;
                let segments = segments(&file.extents);
                self.current = Some(file);
                WalkKind::File(inode.size, segments)
            }
            0o12 => WalkKind::Symlink(self.target(number, &inode)?),
            0o02 => inode.device(WalkKind::Char),
            0o06 => inode.device(WalkKind::Block),
            0o01 => WalkKind::Fifo,
            0o14 => WalkKind::Socket,
            _ => return Err(damaged(format!("object {object} has an unknown type"))),
        };
        Ok(WalkObject {
            meta: inode.meta,
            links: inode.links,
            kind,
        })
    }

    fn read_at(&mut self, number: u64, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let known = self.current.as_ref();
        if known.is_none_or(|known| known.number != number) {
            let ObjectPlace::In(_, tree, object) = self.subvolumes.place(number)? else {
                return Err(damaged("an unknown file"));
            };
            let inode = BtrfsInode::read(&mut self.trees, tree, object)?;
            self.current = Some(self.file(number, &inode)?);
        }
        match &mut self.current {
            Some(file) => file.read(&mut self.trees, &mut self.data, offset, buffer),
            None => Ok(0),
        }
    }

    fn notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.passed_over());
        notes
    }
}
