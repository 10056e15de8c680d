//! The superblock, and the groups' descriptors.

use std::io;

use super::{u16_at, u32_at};
use crate::limits::EXT_GROUPS_MAX;
use crate::walk::{damaged, unknown};
use crate::window::Window;

/// Features that change the reading: those supported here.
const KNOWN: u32 = FILE_TYPE
    | META_GROUPS
    | 0x40
    | WIDE
    | 0x100
    | 0x200
    | 0x400
    | 0x2000
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000;
/// Directory entries have types.
const FILE_TYPE: u32 = 0x2;
/// The journal must be replayed.
const RECOVER: u32 = 0x4;
/// It is the journal of another file system.
const JOURNAL: u32 = 0x8;
/// Descriptors are spread over the groups.
const META_GROUPS: u32 = 0x10;
/// Block numbers have 64 bits.
const WIDE: u32 = 0x80;
/// Offset of the superblock.
const SUPERBLOCK_OFFSET: u64 = 1024;

/// The fields of the superblock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superblock {
    pub(super) block_len: u64,
    pub(super) inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_len: usize,
    groups: u64,
    blocks_per_group: u64,
    first_block: u64,
    descriptor_len: u64,
    /// From this group of descriptor blocks on they are spread.
    spread_from: Option<u64>,
    sparse: bool,
}

impl Superblock {
    pub(super) fn parse(block: &[u8]) -> io::Result<Self> {
        let word = |at| u32_at(block, at);
        let incompatible = word(96)?;
        Self::check_features(incompatible, u16_at(block, 58)?)?;
        let log = word(24)?;
        if log > 6 {
            return Err(damaged("the block size is impossible"));
        }
        let block_len = 1024 << log;
        let wide = incompatible & WIDE != 0;
        let high = if wide { word(336)? } else { 0 };
        let blocks = u64::from(high) << 32 | u64::from(word(4)?);
        let (first_block, blocks_per_group) = (u64::from(word(20)?), u64::from(word(32)?));
        let inodes_per_group = word(40)?;
        if blocks_per_group == 0 || inodes_per_group == 0 {
            return Err(damaged("its groups are empty"));
        }
        let groups = blocks
            .saturating_sub(first_block)
            .div_ceil(blocks_per_group);
        if groups > EXT_GROUPS_MAX {
            return Err(damaged("it has too many groups"));
        }
        let inode_len = match word(76)? {
            0 => 128,
            _ => usize::from(u16_at(block, 88)?),
        };
        if !(128..=4096).contains(&inode_len) {
            return Err(damaged("the size of its inodes is impossible"));
        }
        let descriptor_len = if wide {
            u64::from(u16_at(block, 254)?).max(32)
        } else {
            32
        };
        if descriptor_len > block_len {
            return Err(damaged("the size of its descriptors is impossible"));
        }
        let spread = incompatible & META_GROUPS != 0;
        if spread && word(92)? & 0x200 != 0 {
            return Err(unknown(
                "it spreads descriptors and keeps two superblocks only",
            ));
        }
        Ok(Superblock {
            block_len,
            inodes: word(0)?,
            inodes_per_group,
            inode_len,
            groups,
            blocks_per_group,
            first_block,
            descriptor_len,
            spread_from: spread.then_some(u64::from(word(260)?)),
            sparse: word(100)? & 1 != 0,
        })
    }

    /// Refuses a file system that cannot be read as it is.
    fn check_features(incompatible: u32, state: u16) -> io::Result<()> {
        if incompatible & JOURNAL != 0 {
            return Err(unknown("it is the journal of another file system"));
        }
        if incompatible & RECOVER != 0 || state & 1 == 0 {
            return Err(unknown(
                "it was not unmounted; unmount it, or run `e2fsck -f -p` on a copy, and try again",
            ));
        }
        if incompatible & !KNOWN != 0 {
            let features = incompatible & !KNOWN;
            let problem = format!(
                "it uses unsupported features ({features:#x}); mount it read-only and name the directory"
            );
            return Err(unknown(problem));
        }
        Ok(())
    }

    /// Start of each group's inode table.
    pub(super) fn inode_tables(&self, image: &Window) -> io::Result<Vec<u64>> {
        let mut tables = Vec::new();
        let mut descriptor = vec![0; usize::try_from(self.descriptor_len).unwrap_or(32)];
        for group in 0..self.groups {
            let offset = self.descriptor(group);
            image.read_exact_at(&mut descriptor, offset)?;
            let high = if self.descriptor_len >= 64 {
                u32_at(&descriptor, 40)?
            } else {
                0
            };
            tables.push(u64::from(high) << 32 | u64::from(u32_at(&descriptor, 8)?));
        }
        Ok(tables)
    }

    /// Offset of a group's descriptor. Groups are few and small, so no overflow is possible.
    fn descriptor(&self, group: u64) -> u64 {
        let in_block = self.block_len / self.descriptor_len;
        let (block, place) = (group / in_block, group % in_block);
        // With small blocks the superblock is block 1, even if the first group begins with block
        // 0.
        let lead = |group| match group {
            0 => (SUPERBLOCK_OFFSET / self.block_len).saturating_sub(self.first_block),
            _ => 0,
        };
        let spread = self.spread_from.is_some_and(|from| block >= from);
        let start = if spread {
            let first = block * in_block;
            let group_start = self.first_block + first * self.blocks_per_group;
            group_start + lead(first) + u64::from(self.has_superblock(first))
        } else {
            self.first_block + lead(0) + 1 + block
        };
        start * self.block_len + place * self.descriptor_len
    }

    /// True if a group begins with a copy of the superblock.
    fn has_superblock(&self, group: u64) -> bool {
        let power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        !self.sparse || group <= 1 || power_of(3) || power_of(5) || power_of(7)
    }
}
