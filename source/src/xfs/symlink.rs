//! The target of a symbolic link: in the inode, or in blocks.

use std::io;

use super::inode::{ForkFormat, XfsInode};
use super::{BlockStamp, Xfs};
use crate::fields::{be32, slice};
use crate::limits::{XFS_TARGET_LEN_MAX, XFS_TARGET_RUN_LEN_MAX};
use crate::walk::damaged;

/// First bytes of a run of blocks of version 5.
const MARK: u32 = 0x5853_4c4d;
/// Bytes before the target in it.
const HEADER_LEN: usize = 56;
const STAMP: BlockStamp = BlockStamp {
    checksum: 12,
    owner: 32,
};

impl Xfs {
    /// The target of a symbolic link.
    pub(super) fn target(&self, inode: &XfsInode) -> io::Result<Box<[u8]>> {
        let wrong = || damaged("the target of a link is damaged");
        if inode.size == 0 || inode.size > XFS_TARGET_LEN_MAX {
            return Err(wrong());
        }
        let len = usize::try_from(inode.size).map_err(io::Error::other)?;
        let target = match inode.format {
            ForkFormat::Local => slice(inode.data(), 0, len)?.to_vec(),
            _ => self.remote_target(inode, len)?,
        };
        if target.len() != len || target.contains(&0) {
            return Err(wrong());
        }
        Ok(target.into())
    }

    fn remote_target(&self, inode: &XfsInode, len: usize) -> io::Result<Vec<u8>> {
        let mut target = Vec::new();
        for extent in self.image_extents(inode)?.iter() {
            if extent.len > XFS_TARGET_RUN_LEN_MAX {
                return Err(damaged("the target of a link is damaged"));
            }
            let run = usize::try_from(extent.len).map_err(io::Error::other)?;
            let run = self.bytes(extent.start, run)?;
            let missing = len - target.len();
            if !self.superblock.has_checksums {
                target.extend_from_slice(slice(&run, 0, missing.min(run.len()))?);
                continue;
            }
            self.check(&run, STAMP, inode.number)?;
            let (at, count) = (be32(&run, 4)?, be32(&run, 8)?);
            if be32(&run, 0)? != MARK || at as usize != target.len() || count as usize > missing {
                return Err(damaged("the target of a link is damaged"));
            }
            target.extend_from_slice(slice(&run, HEADER_LEN, count as usize)?);
        }
        Ok(target)
    }
}
