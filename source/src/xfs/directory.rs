//! Names in a directory: in the inode, or in blocks. The blocks that index a large directory follow
//! those with its names and are not read.

use std::io;

use super::inode::XfsInode;
use super::superblock::XfsSuperblock;
use super::{BlockStamp, Xfs};
use crate::fields::{be16, be32, be64, byte, slice};
use crate::limits::XFS_DIRECTORY_LEN_MAX;
use crate::walk::damaged;

/// Names and inode numbers.
type XfsNames = Vec<(Vec<u8>, u64)>;

/// Offset of the index in a directory.
const INDEX_FROM: u64 = 1 << 35;
/// First bytes of the only block, without and with a checksum.
const ONLY: [u32; 2] = [0x5844_3242, 0x5844_4233];
/// First bytes of one of several blocks.
const ONE_OF_SEVERAL: [u32; 2] = [0x5844_3244, 0x5844_4433];
/// Bytes before the entries.
const HEADER_LEN: [usize; 2] = [16, 64];
const STAMP: BlockStamp = BlockStamp {
    checksum: 4,
    owner: 40,
};
/// Marks a free part of a block.
const FREE: u16 = 0xffff;

/// The names of a small directory, in its inode.
pub(super) fn short(fork: &[u8], size: u64, superblock: &XfsSuperblock) -> io::Result<XfsNames> {
    let len = usize::try_from(size).unwrap_or(usize::MAX);
    let bytes = slice(fork, 0, len)?;
    let (count, wide) = (byte(bytes, 0)?, byte(bytes, 1)? != 0);
    let number_len = if wide { 8 } else { 4 };
    let mut at = 2 + number_len;
    let mut names = XfsNames::new();
    for _ in 0..count {
        let name_len = usize::from(byte(bytes, at)?);
        let name = slice(bytes, at + 3, name_len)?;
        at += 3 + name_len + usize::from(superblock.has_types);
        let number = match wide {
            true => be64(bytes, at)?,
            false => u64::from(be32(bytes, at)?),
        };
        at += number_len;
        names.push((name.to_vec(), number));
    }
    Ok(names)
}

impl Xfs {
    /// The names of a directory in blocks.
    pub(super) fn directory(&self, inode: &XfsInode) -> io::Result<XfsNames> {
        let extents = self.image_extents(inode)?;
        let block_len = self.superblock.directory_block_len as u64;
        let mut names = XfsNames::new();
        let mut next = 0;
        let mut block = vec![0; self.superblock.directory_block_len];
        if extents.len() > XFS_DIRECTORY_LEN_MAX {
            return Err(damaged("it is too large for a directory"));
        }
        extents.check_distinct()?;
        for extent in extents
            .iter()
            .take_while(|extent| extent.offset < INDEX_FROM)
        {
            let end = extent.end().min(INDEX_FROM).div_ceil(block_len);
            for number in next.max(extent.offset / block_len)..end {
                extents.read_exact(&self.image, number * block_len, &mut block)?;
                self.block(inode, &block, &mut names)?;
                next = number + 1;
            }
        }
        Ok(names)
    }

    /// The names in one block.
    fn block(&self, inode: &XfsInode, block: &[u8], names: &mut XfsNames) -> io::Result<()> {
        self.check(block, STAMP, inode.number)?;
        let form = usize::from(self.superblock.has_checksums);
        let is = |marks: [u32; 2], mark| marks.get(form) == Some(&mark);
        let mark = be32(block, 0)?;
        let end = if is(ONE_OF_SEVERAL, mark) {
            block.len()
        } else if is(ONLY, mark) {
            // After the entries come their hashes, and at the end the number of these.
            let tail = block.len().saturating_sub(8);
            let hashes = be32(block, tail)? as usize;
            tail.saturating_sub(hashes.saturating_mul(8))
        } else {
            return Err(damaged("a block of the directory is damaged"));
        };
        let mut at = HEADER_LEN.get(form).copied().unwrap_or_default();
        while at < end {
            if be16(block, at)? == FREE {
                let len = usize::from(be16(block, at + 2)?);
                if len < 8 || len % 8 != 0 {
                    return Err(damaged("a directory entry is damaged"));
                }
                at += len;
                continue;
            }
            let number = be64(block, at)?;
            let name_len = usize::from(byte(block, at + 8)?);
            let name = slice(block, at + 9, name_len)?;
            at += (9 + name_len + usize::from(self.superblock.has_types) + 2).next_multiple_of(8);
            if name_len == 0 || at > end {
                return Err(damaged("a directory entry is damaged"));
            }
            if name != b"." && name != b".." {
                names.push((name.to_vec(), number));
            }
        }
        Ok(())
    }
}
