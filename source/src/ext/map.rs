//! The blocks of a file: by extents, or by ext2's tables of block numbers.

use std::io;

use super::inode::ExtInode;
use super::{Ext, u16_at, u32_at};
use crate::image_extents::{ImageExtent, ImageExtents};
use crate::limits::EXT_NODES_MAX;
use crate::walk::damaged;

/// Most levels of extents.
const DEPTH_MAX: u16 = 5;
/// First bytes of a node of extents.
const NODE_MARK: u16 = 0xf30a;
/// Longest extent; a larger number is an unwritten extent, longer by this value.
const EXTENT_BLOCKS_MAX: u64 = 32_768;

/// Extents being collected, in order.
struct Mapping {
    block_len: u64,
    all: ImageExtents,
    /// Number of mapping blocks that may still be read.
    nodes_left: u64,
}

impl Mapping {
    /// Counts one more mapping block.
    fn count_node(&mut self) -> io::Result<()> {
        let left = self.nodes_left.checked_sub(1);
        self.nodes_left =
            left.ok_or_else(|| damaged("the lists of a file's blocks form a loop"))?;
        Ok(())
    }

    fn bytes(&self, blocks: u64) -> io::Result<u64> {
        let bytes = blocks.checked_mul(self.block_len);
        bytes.ok_or_else(|| damaged("a block is outside the image"))
    }

    /// `count` blocks of the file from `block` on are at `at` in the image.
    fn add(&mut self, block: u64, count: u64, at: u64) -> io::Result<()> {
        let extent = ImageExtent {
            offset: self.bytes(block)?,
            len: self.bytes(count)?,
            start: self.bytes(at)?,
        };
        self.all.add(extent)
    }

    /// `count` blocks of the file from `block` on were allocated but not written.
    fn add_hole(&mut self, block: u64, count: u64) -> io::Result<()> {
        let (offset, len) = (self.bytes(block)?, self.bytes(count)?);
        self.all.add_hole(offset, len)
    }
}

impl Ext {
    /// The extents of a file or directory.
    pub(super) fn image_extents(&self, inode: &ExtInode) -> io::Result<ImageExtents> {
        let mut mapping = Mapping {
            block_len: self.superblock.block_len,
            all: ImageExtents::default(),
            nodes_left: EXT_NODES_MAX.min(self.image.len() / self.superblock.block_len),
        };
        if inode.has_extents() {
            self.node(inode.blocks(), None, &mut mapping)?;
            return Ok(mapping.all);
        }
        let blocks = inode.size.div_ceil(self.superblock.block_len);
        let mut block = 0;
        for place in 0..15 {
            let at = u64::from(u32_at(inode.blocks(), place * 4)?);
            let depth = place.saturating_sub(11);
            self.table(at, depth, &mut block, blocks, &mut mapping)?;
        }
        Ok(mapping.all)
    }

    /// One node of the tree of extents.
    fn node(&self, node: &[u8], above: Option<u16>, mapping: &mut Mapping) -> io::Result<()> {
        let (mark, count, depth) = (u16_at(node, 0)?, u16_at(node, 2)?, u16_at(node, 6)?);
        let fits = above.map_or(depth <= DEPTH_MAX, |above| depth + 1 == above);
        if mark != NODE_MARK || !fits {
            return Err(damaged("a file's extents are damaged"));
        }
        for place in 1..=usize::from(count) {
            let at = place * 12;
            let block = u64::from(u32_at(node, at)?);
            if depth > 0 {
                let child =
                    u64::from(u16_at(node, at + 8)?) << 32 | u64::from(u32_at(node, at + 4)?);
                mapping.count_node()?;
                self.node(&self.block(child)?, Some(depth), mapping)?;
                continue;
            }
            let count = u64::from(u16_at(node, at + 4)?);
            let start = u64::from(u16_at(node, at + 6)?) << 32 | u64::from(u32_at(node, at + 8)?);
            match count.checked_sub(EXTENT_BLOCKS_MAX) {
                None | Some(0) => mapping.add(block, count, start)?,
                Some(unwritten) => mapping.add_hole(block, unwritten)?,
            }
        }
        Ok(())
    }

    /// A table of block numbers of this depth; 0 is a block of data itself. `block` is the next
    /// block of the file, `blocks` the number of all.
    fn table(
        &self,
        at: u64,
        depth: usize,
        block: &mut u64,
        blocks: u64,
        mapping: &mut Mapping,
    ) -> io::Result<()> {
        let in_table = self.superblock.block_len / 4;
        if *block >= blocks {
            return Ok(());
        }
        if at == 0 {
            *block += (0..depth).fold(1, |count, _| count * in_table);
            return Ok(());
        }
        if depth == 0 {
            mapping.add(*block, 1, at)?;
            *block += 1;
            return Ok(());
        }
        mapping.count_node()?;
        for entry in self.block(at)?.chunks_exact(4) {
            self.table(
                u64::from(u32_at(entry, 0)?),
                depth - 1,
                block,
                blocks,
                mapping,
            )?;
        }
        Ok(())
    }
}
