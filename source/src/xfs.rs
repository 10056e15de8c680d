//! XFS file systems of versions 4 and 5, read in our own process.
//!
//! The code is our own, because the crates that read XFS are young, and each of them omits
//! something that a copy needs (attributes, ACLs, devices, holes). Checksums of version 5 are
//! verified. A file system whose log holds changes is refused, because the log is not replayed.

mod attributes;
mod directory;
mod inode;
mod log;
mod map;
mod superblock;
mod symlink;

use std::io;

use self::inode::{ForkFormat, XfsInode};
use self::superblock::XfsSuperblock;
use super::fields::{be64, crc32c, le32};
use super::image_extents::ImageExtents;
use super::walk::{FileSystem, WalkKind, WalkObject, damaged, unknown};
use super::window::Window;

/// An XFS file system.
#[derive(Debug)]
pub struct Xfs {
    image: Window,
    superblock: XfsSuperblock,
    /// The last file read: its number and the places of its bytes.
    current: Option<(u64, ImageExtents)>,
}

/// Offset of the fields that every block of version 5 has, by the kind of the block.
#[derive(Debug, Clone, Copy)]
struct BlockStamp {
    /// Offset of the checksum.
    checksum: usize,
    /// Offset of the inode that owns the block.
    owner: usize,
}

impl Xfs {
    /// The file system in `image`.
    ///
    /// # Errors
    /// It is damaged, its log holds changes, or it uses unsupported features.
    pub fn open(image: Window) -> io::Result<Self> {
        let head = image.head(32 << 10)?;
        let superblock = XfsSuperblock::parse(&head)?;
        superblock.check_len(image.len())?;
        log::check_clean(&image, &superblock)?;
        Ok(Xfs {
            image,
            superblock,
            current: None,
        })
    }

    fn inode(&self, number: u64) -> io::Result<XfsInode> {
        let superblock = &self.superblock;
        let offset = superblock.inode_offset(number)?;
        let mut bytes = vec![0; superblock.inode_len];
        self.image.read_exact_at(&mut bytes, offset)?;
        let inode = XfsInode::parse(bytes, superblock, number);
        inode.map_err(|cause| io::Error::new(cause.kind(), format!("inode {number}: {cause}")))
    }

    /// Reads `len` bytes from `offset` in the image.
    fn bytes(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.image.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Version 5: checks the checksum of `block` and its owner.
    fn check(&self, block: &[u8], stamp: BlockStamp, owner: u64) -> io::Result<()> {
        if !self.superblock.has_checksums {
            return Ok(());
        }
        check_sum(block, stamp.checksum)?;
        if be64(block, stamp.owner)? != owner {
            return Err(damaged(format!(
                "a block of another object is where inode {owner} has one"
            )));
        }
        Ok(())
    }
}

/// Compares the CRC-32C of a structure with the one at `at`, which counts as zeros.
fn check_sum(bytes: &[u8], at: usize) -> io::Result<()> {
    let stored = le32(bytes, at)?;
    let before = bytes.get(..at).unwrap_or_default();
    let behind = bytes.get(at + 4..).unwrap_or_default();
    if crc32c(&[before, &[0; 4], behind]) != stored {
        let problem = "a structure does not match its checksum; run `xfs_repair` on a copy";
        return Err(damaged(problem));
    }
    Ok(())
}

impl FileSystem for Xfs {
    fn root(&self) -> u64 {
        self.superblock.root
    }

    fn list(&mut self, directory: u64) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let inode = self.inode(directory)?;
        match inode.format {
            ForkFormat::Local => directory::short(inode.data(), inode.size, &self.superblock),
            _ => self.directory(&inode),
        }
    }

    fn object(&mut self, number: u64) -> io::Result<WalkObject> {
        let inode = self.inode(number)?;
        let kind = match inode.mode >> 12 {
            0o04 => WalkKind::Directory,
            0o10 => {
                if inode.is_realtime() {
                    return Err(unknown(
                        "its bytes are in the real-time section, which is not supported; \
                         mount the image read-only and name the directory",
                    ));
                }
                let extents = self.image_extents(&inode)?;
                let segments = extents.segments(inode.size);
                self.current = Some((number, extents));
                WalkKind::File(inode.size, segments)
            }
            0o12 => WalkKind::Symlink(self.target(&inode)?),
            0o02 => inode.device(WalkKind::Char)?,
            0o06 => inode.device(WalkKind::Block)?,
            0o01 => WalkKind::Fifo,
            0o14 => WalkKind::Socket,
            _ => return Err(damaged(format!("inode {number} has an unknown type"))),
        };
        let mut meta = inode.metadata()?;
        meta.xattrs = self.attributes(&inode)?;
        Ok(WalkObject {
            meta,
            links: inode.links,
            kind,
        })
    }

    fn read_at(&mut self, number: u64, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let known = self.current.as_ref();
        if known.is_none_or(|(known, _)| *known != number) {
            let inode = self.inode(number)?;
            self.current = Some((number, self.image_extents(&inode)?));
        }
        match &self.current {
            Some((_, extents)) => extents.read(&self.image, offset, buffer),
            None => Ok(0),
        }
    }
}
