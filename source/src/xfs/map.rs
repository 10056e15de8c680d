//! The blocks of a fork: a list of extents, or a tree of them.

use std::io;

use super::inode::{Fork, ForkFormat, XfsInode};
use super::{BlockStamp, Xfs};
use crate::fields::{be16, be32, be64};
use crate::image_extents::{ImageExtent, ImageExtents};
use crate::limits::XFS_NODES_MAX;
use crate::walk::damaged;

/// Bytes of an extent.
const EXTENT_LEN: usize = 16;
/// Most levels of the tree.
const DEPTH_MAX: u16 = 8;
/// First bytes of a node, without and with a checksum.
const MARKS: [u32; 2] = [0x424d_4150, 0x424d_4133];
/// Bytes before the records of a node, without and with a checksum.
const HEADER_LEN: [usize; 2] = [24, 72];
const STAMP: BlockStamp = BlockStamp {
    checksum: 64,
    owner: 56,
};

/// A tree being read.
struct ExtentTree<'t> {
    owner: u64,
    found: &'t mut ImageExtents,
    nodes: u64,
}

impl Xfs {
    /// The extents of a file, a directory or a link. Extents that were allocated but not written
    /// are holes.
    pub(super) fn image_extents(&self, inode: &XfsInode) -> io::Result<ImageExtents> {
        self.fork_extents(inode.number, &inode.data_fork()?)
    }

    /// The extents of a fork of the inode `owner`.
    pub(super) fn fork_extents(&self, owner: u64, fork: &Fork<'_>) -> io::Result<ImageExtents> {
        let mut found = ImageExtents::default();
        match fork.format {
            ForkFormat::Extents => {
                let count = usize::try_from(fork.extents).unwrap_or(usize::MAX);
                let len = count.saturating_mul(EXTENT_LEN);
                let extents = fork.bytes.get(..len);
                let extents = extents.ok_or_else(|| damaged("its extents do not fit"))?;
                self.extents(extents, &mut found)?;
            }
            ForkFormat::Tree => {
                let mut tree = ExtentTree {
                    owner,
                    found: &mut found,
                    nodes: 0,
                };
                self.root(fork.bytes, &mut tree)?;
            }
            ForkFormat::Device | ForkFormat::Local => {
                return Err(damaged("its list of blocks has an unknown form"));
            }
        }
        Ok(found)
    }

    /// A list of extents: 1 bit for those not written, 54 bits of offset, 52 of block, 21 of length.
    fn extents(&self, extents: &[u8], found: &mut ImageExtents) -> io::Result<()> {
        let superblock = &self.superblock;
        for extent in extents.chunks_exact(EXTENT_LEN) {
            let (high, low) = (be64(extent, 0)?, be64(extent, 8)?);
            let is_written = high >> 63 == 0;
            let offset = high >> 9 & ((1 << 54) - 1);
            let block = (high & 0x1ff) << 43 | low >> 21;
            let count = low & 0x1f_ffff;
            let start = superblock.block_offset(block, count)?;
            let offset = offset.checked_mul(superblock.block_len);
            let offset = offset.ok_or_else(|| damaged("an extent is outside the file"))?;
            let len = count * superblock.block_len;
            match is_written {
                true => found.add(ImageExtent { offset, len, start })?,
                false => found.add_hole(offset, len)?,
            }
        }
        Ok(())
    }

    /// The root of a tree, in the inode: level, number of records, room for keys, blocks.
    fn root(&self, root: &[u8], tree: &mut ExtentTree<'_>) -> io::Result<()> {
        let (level, count) = (be16(root, 0)?, usize::from(be16(root, 2)?));
        let room = root.len().saturating_sub(4) / 16;
        if level == 0 || level > DEPTH_MAX || count > room {
            return Err(damaged("its tree of extents is damaged"));
        }
        for place in 0..count {
            let block = be64(root, 4 + (room + place) * 8)?;
            self.node(block, level - 1, tree)?;
        }
        Ok(())
    }

    /// A node of the tree in a block of its own.
    fn node(&self, block: u64, level: u16, tree: &mut ExtentTree<'_>) -> io::Result<()> {
        tree.nodes += 1;
        let superblock = &self.superblock;
        if tree.nodes > XFS_NODES_MAX.min(superblock.blocks) {
            return Err(damaged("its tree of extents does not end"));
        }
        let offset = superblock.block_offset(block, 1)?;
        let len = usize::try_from(superblock.block_len).map_err(io::Error::other)?;
        let node = self.bytes(offset, len)?;
        let ([plain, checked], [short, long]) = (MARKS, HEADER_LEN);
        let (mark, header_len) = match superblock.has_checksums {
            true => (checked, long),
            false => (plain, short),
        };
        self.check(&node, STAMP, tree.owner)?;
        if be32(&node, 0)? != mark || be16(&node, 4)? != level {
            return Err(damaged("its tree of extents is damaged"));
        }
        let count = usize::from(be16(&node, 6)?);
        let room = (len - header_len) / EXTENT_LEN;
        if count == 0 || count > room {
            return Err(damaged("its tree of extents is damaged"));
        }
        if level == 0 {
            let extents = node.get(header_len..header_len + count * EXTENT_LEN);
            return self.extents(extents.unwrap_or_default(), tree.found);
        }
        for place in 0..count {
            let child = be64(&node, header_len + (room + place) * 8)?;
            self.node(child, level - 1, tree)?;
        }
        Ok(())
    }
}
