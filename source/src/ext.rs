//! ext2, ext3 and ext4 file systems, read in our own process.
//!
//! The code is our own, because the crates that read ext4 support neither attributes nor devices,
//! and the output of `debugfs` cannot be parsed exactly (a name may contain a line break). All
//! properties of a tree are read: owners, modes, times to the nanosecond, attributes and ACLs,
//! links, devices, holes. A file system that was not unmounted is refused, because its journal is
//! not replayed.

mod attributes;
mod directory;
mod inode;
mod map;
mod superblock;

use std::io;

use self::inode::ExtInode;
use self::superblock::Superblock;
use super::Segments;
use super::fields::{array as number, le16 as u16_at, le32 as u32_at};
use super::image_extents::ImageExtents;
use super::walk::{FileSystem, WalkKind, WalkObject, damaged, unknown};
use super::window::Window;

/// Number of the root directory.
const ROOT: u64 = 2;

/// An ext file system.
#[derive(Debug)]
pub struct Ext {
    image: Window,
    superblock: Superblock,
    /// Starts of the groups' inode tables, in blocks.
    tables: Vec<u64>,
    /// The last file read: its number and the places of its bytes.
    current: Option<(u64, ExtPlace)>,
}

/// The places of a file's bytes.
#[derive(Debug)]
enum ExtPlace {
    /// In blocks of the image.
    Blocks(ImageExtents),
    /// In the inode.
    Inline(Vec<u8>),
}

impl Ext {
    /// The file system in `image`.
    ///
    /// # Errors
    /// It is damaged, was not unmounted, or uses unsupported features.
    pub fn open(image: Window) -> io::Result<Self> {
        let mut block = [0; 1024];
        image.read_exact_at(&mut block, 1024)?;
        let superblock = Superblock::parse(&block)?;
        let tables = superblock.inode_tables(&image)?;
        Ok(Ext {
            image,
            superblock,
            tables,
            current: None,
        })
    }

    fn inode(&self, number: u64) -> io::Result<ExtInode> {
        let superblock = &self.superblock;
        let index = number.checked_sub(1);
        let index = index.filter(|_| number <= u64::from(superblock.inodes));
        let index = index.ok_or_else(|| damaged(format!("there is no inode {number}")))?;
        let per_group = u64::from(superblock.inodes_per_group);
        let table = usize::try_from(index / per_group).ok();
        let table = table.and_then(|group| self.tables.get(group));
        let table = table.ok_or_else(|| damaged(format!("inode {number} is in no group")))?;
        let size = superblock.inode_len as u64;
        let offset = (table.checked_mul(superblock.block_len))
            .and_then(|start| start.checked_add(index % per_group * size))
            .ok_or_else(|| damaged("an inode table is outside the image"))?;
        let mut bytes = vec![0; superblock.inode_len];
        self.image.read_exact_at(&mut bytes, offset)?;
        let inode = ExtInode::parse(bytes)?;
        if inode.is_encrypted() {
            return Err(unknown("it is encrypted"));
        }
        Ok(inode)
    }

    fn block(&self, number: u64) -> io::Result<Vec<u8>> {
        let len = self.superblock.block_len;
        let offset = number.checked_mul(len);
        let offset = offset.ok_or_else(|| damaged("a block is outside the image"))?;
        let mut block = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.image.read_exact_at(&mut block, offset)?;
        Ok(block)
    }

    /// The places of the bytes of a file or directory.
    fn place(&self, inode: &ExtInode) -> io::Result<ExtPlace> {
        if !inode.is_inline() {
            return Ok(ExtPlace::Blocks(self.image_extents(inode)?));
        }
        let mut bytes = inode.blocks().to_vec();
        bytes.extend_from_slice(&self.inline_rest(inode)?);
        bytes.truncate(usize::try_from(inode.size).unwrap_or(usize::MAX));
        Ok(ExtPlace::Inline(bytes))
    }

    /// A short file whole: a directory, a link, an attribute.
    fn whole(&self, inode: &ExtInode, len_max: u64) -> io::Result<Vec<u8>> {
        if inode.size > len_max {
            return Err(damaged(format!("{} bytes are too many", inode.size)));
        }
        let place = self.place(inode)?;
        let mut bytes = vec![0; usize::try_from(inode.size).map_err(io::Error::other)?];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            done += self.read_place(&place, done as u64, rest)?;
        }
        Ok(bytes)
    }

    /// At least one byte; holes are zeros.
    fn read_place(&self, place: &ExtPlace, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match place {
            ExtPlace::Blocks(extents) => extents.read(&self.image, offset, buffer),
            ExtPlace::Inline(bytes) => {
                let start = usize::try_from(offset).map_err(io::Error::other)?;
                let rest = bytes.get(start..).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                for (to, from) in buffer.iter_mut().zip(rest) {
                    *to = *from;
                }
                Ok(count)
            }
        }
    }
}

impl FileSystem for Ext {
    fn root(&self) -> u64 {
        ROOT
    }

    fn list(&mut self, directory: u64) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let inode = self.inode(directory)?;
        if inode.is_inline() {
            return directory::inline(inode.blocks(), &self.inline_rest(&inode)?);
        }
        self.directory(&inode)
    }

    fn object(&mut self, number: u64) -> io::Result<WalkObject> {
        let inode = self.inode(number)?;
        let kind = match inode.format() {
            0o040 => WalkKind::Directory,
            0o100 => {
                let place = self.place(&inode)?;
                let segments = segments(&place, inode.size);
                self.current = Some((number, place));
                WalkKind::File(inode.size, segments)
            }
            0o120 => WalkKind::Symlink(self.target(&inode)?),
            0o020 => inode.device(WalkKind::Char)?,
            0o060 => inode.device(WalkKind::Block)?,
            0o010 => WalkKind::Fifo,
            0o140 => WalkKind::Socket,
            _ => return Err(damaged(format!("inode {number} has an unknown type"))),
        };
        let mut meta = inode.metadata();
        meta.xattrs = self.attributes(&inode)?;
        Ok(WalkObject {
            meta,
            links: inode.links,
            kind,
        })
    }

    fn read_at(&mut self, number: u64, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self
            .current
            .as_ref()
            .is_none_or(|(known, _)| *known != number)
        {
            let inode = self.inode(number)?;
            self.current = Some((number, self.place(&inode)?));
        }
        match &self.current {
            Some((_, place)) => self.read_place(place, offset, buffer),
            None => Ok(0),
        }
    }
}

/// The data ranges of a file of `size` bytes.
fn segments(place: &ExtPlace, size: u64) -> Segments {
    match place {
        ExtPlace::Blocks(extents) => extents.segments(size),
        ExtPlace::Inline(_) if size == 0 => Segments::new(),
        ExtPlace::Inline(_) => vec![(0, size)],
    }
}
