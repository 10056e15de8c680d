//! The superblock, and the places of blocks and inodes.

use std::io;

use super::check_sum;
use crate::fields::{be16, be32, be64, byte};
use crate::walk::{damaged, unknown};

/// Version 4: names in directories can be long.
const DIRECTORY_V2: u16 = 0x2000;
/// Version 4: there is a second word of features.
const MORE_FEATURES: u16 = 0x8000;
/// Version 4: directory entries have types.
const ENTRY_TYPES_V4: u32 = 0x200;

/// Version 5, features that change the reading: directory entries have types.
const ENTRY_TYPES: u32 = 0x1;
/// `xfs_repair` must run.
const NEEDS_REPAIR: u32 = 0x10;
/// Supported features: also sparse inodes, another UUID of metadata, times beyond 2038, 64-bit
/// counters of extents, exchanged ranges, parent pointers, a directory of metadata.
const KNOWN: u32 = ENTRY_TYPES | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80 | 0x100;

/// Offset of the checksum of version 5.
const CHECKSUM: usize = 224;

/// The fields of the superblock.
#[derive(Debug, Clone, Copy)]
pub(super) struct XfsSuperblock {
    pub(super) block_len: u64,
    /// Number of the root directory.
    pub(super) root: u64,
    pub(super) inode_len: usize,
    /// Bytes of a block of a directory.
    pub(super) directory_block_len: usize,
    /// Directory entries have types.
    pub(super) has_types: bool,
    /// True for version 5, whose metadata has checksums.
    pub(super) has_checksums: bool,
    /// First block of the log, and number of its blocks.
    pub(super) log: (u64, u64),
    pub(super) blocks: u64,
    groups: u64,
    group_blocks: u64,
    /// Bits of a block number within its group.
    group_bits: u32,
    /// Bits of the place of an inode in its block.
    inode_bits: u32,
    inodes_in_block: u64,
}

impl XfsSuperblock {
    pub(super) fn parse(head: &[u8]) -> io::Result<Self> {
        let version = be16(head, 100)?;
        let (has_types, has_checksums) = match version & 0xf {
            4 => (features_v4(head, version)?, false),
            5 => (features_v5(head)?, true),
            other => {
                let problem = format!("it is XFS of version {other}; only 4 and 5 are supported");
                return Err(unknown(problem));
            }
        };
        if byte(head, 126)? != 0 {
            return Err(damaged("its creation was not completed"));
        }
        let (block_bits, inode_bits) = (byte(head, 120)?, byte(head, 122)?);
        let (in_block_bits, group_bits) = (byte(head, 123)?, byte(head, 124)?);
        let directory_bits = byte(head, 192)?;
        let sound = (9..=16).contains(&block_bits)
            && be32(head, 4)? == 1 << block_bits
            && (8..=11).contains(&inode_bits)
            && be16(head, 104)? == 1 << inode_bits
            && u32::from(inode_bits) + u32::from(in_block_bits) == u32::from(block_bits)
            && (1..=32).contains(&group_bits)
            && u32::from(block_bits) + u32::from(directory_bits) <= 16;
        let (group_blocks, groups) = (u64::from(be32(head, 84)?), u64::from(be32(head, 88)?));
        if !sound || groups == 0 || group_blocks == 0 || group_blocks > 1 << group_bits {
            return Err(damaged("its superblock is impossible"));
        }
        if be64(head, 48)? == 0 {
            return Err(unknown(
                "its log is on another device; mount it read-only and name the directory",
            ));
        }
        let mut superblock = XfsSuperblock {
            block_len: 1 << block_bits,
            root: be64(head, 56)?,
            inode_len: 1 << inode_bits,
            directory_block_len: 1 << (u32::from(block_bits) + u32::from(directory_bits)),
            has_types,
            has_checksums,
            log: (0, u64::from(be32(head, 96)?)),
            blocks: be64(head, 8)?,
            groups,
            group_blocks,
            group_bits: u32::from(group_bits),
            inode_bits: u32::from(in_block_bits),
            inodes_in_block: 1 << in_block_bits,
        };
        superblock.log.0 = superblock.block_offset(be64(head, 48)?, superblock.log.1)?;
        Ok(superblock)
    }

    /// The image has all blocks.
    pub(super) fn check_len(&self, len: u64) -> io::Result<()> {
        let wanted = self.blocks.saturating_mul(self.block_len);
        if wanted > len {
            let problem =
                format!("the image is truncated: its file system has {wanted} bytes, it has {len}");
            return Err(damaged(problem));
        }
        Ok(())
    }

    /// Offset in the image of `count` blocks from the block `number` on; they are in one group.
    pub(super) fn block_offset(&self, number: u64, count: u64) -> io::Result<u64> {
        let (group, block) = (
            number >> self.group_bits,
            number & ((1 << self.group_bits) - 1),
        );
        let end = block.checked_add(count);
        if group >= self.groups || end.is_none_or(|end| end > self.group_blocks) {
            return Err(damaged(format!("there is no block {number}")));
        }
        let offset = (group * self.group_blocks + block).checked_mul(self.block_len);
        offset.ok_or_else(|| damaged(format!("there is no block {number}")))
    }

    /// Offset of an inode in the image.
    pub(super) fn inode_offset(&self, number: u64) -> io::Result<u64> {
        let place = number & (self.inodes_in_block - 1);
        let block = self.block_offset(number >> self.inode_bits, 1);
        let block = block.map_err(|_| damaged(format!("there is no inode {number}")))?;
        Ok(block + place * self.inode_len as u64)
    }
}

/// Version 4: true if directory entries have types.
fn features_v4(head: &[u8], version: u16) -> io::Result<bool> {
    if version & DIRECTORY_V2 == 0 {
        return Err(unknown(
            "its directories have the form of 1994, which is not supported",
        ));
    }
    Ok(version & MORE_FEATURES != 0 && be32(head, 200)? & ENTRY_TYPES_V4 != 0)
}

/// Version 5: true if directory entries have types.
fn features_v5(head: &[u8]) -> io::Result<bool> {
    let sector_len = usize::from(be16(head, 102)?);
    let sector = head.get(..sector_len).filter(|_| sector_len >= 512);
    check_sum(
        sector.ok_or_else(|| damaged("its superblock is impossible"))?,
        CHECKSUM,
    )?;
    let features = be32(head, 216)?;
    if features & NEEDS_REPAIR != 0 {
        return Err(unknown("it needs a repair; run `xfs_repair` on a copy"));
    }
    if features & !KNOWN != 0 {
        let features = features & !KNOWN;
        let problem = format!(
            "it uses unsupported features ({features:#x}); mount it read-only and name the directory"
        );
        return Err(unknown(problem));
    }
    Ok(features & ENTRY_TYPES != 0)
}
