//! Names in a directory. Index blocks of large directories look like unused entries, so they need
//! no special treatment.

use std::io;

use super::inode::ExtInode;
use super::{Ext, number, u16_at, u32_at};
use crate::limits::EXT_DIRECTORY_LEN_MAX;
use crate::walk::damaged;

/// Names and inode numbers.
type DirectoryNames = Vec<(Vec<u8>, u64)>;

impl Ext {
    /// The entries of a directory in blocks. Holes have no entries.
    pub(super) fn directory(&self, inode: &ExtInode) -> io::Result<DirectoryNames> {
        let extents = self.image_extents(inode)?;
        if inode.size > EXT_DIRECTORY_LEN_MAX {
            return Err(damaged(format!("{} bytes are too many", inode.size)));
        }
        extents.check_distinct()?;
        let block_len = self.superblock.block_len;
        let mut names = DirectoryNames::new();
        for (start, len) in extents.segments(inode.size) {
            for offset in (start..start + len).step_by(self.superblock.block_len as usize) {
                let mut block = vec![0; block_len as usize];
                extents.read_exact(&self.image, offset, &mut block)?;
                take(&block, &mut names)?;
            }
        }
        Ok(names)
    }
}

/// The entries of a small directory: those in the inode after its parent's number, and those in its
/// attributes.
pub(super) fn inline(blocks: &[u8], rest: &[u8]) -> io::Result<DirectoryNames> {
    let mut names = DirectoryNames::new();
    take(blocks.get(4..).unwrap_or_default(), &mut names)?;
    take(rest, &mut names)?;
    Ok(names)
}

fn take(block: &[u8], names: &mut DirectoryNames) -> io::Result<()> {
    let mut rest = block;
    // The last bytes of an inline directory are too few for an entry.
    while rest.len() >= 8 {
        let inode = u32_at(rest, 0)?;
        // The length of the longest block does not fit into 16 bits.
        let len = match usize::from(u16_at(rest, 4)?) {
            0 | 65_535 => rest.len(),
            len => len,
        };
        let [name_len] = number(rest, 6)?;
        if len < 8 || len > rest.len() || usize::from(name_len) + 8 > len {
            return Err(damaged("a directory entry is damaged"));
        }
        let (entry, behind) = rest.split_at(len);
        let name = entry.get(8..8 + usize::from(name_len)).unwrap_or_default();
        if inode != 0 && name != b"." && name != b".." {
            names.push((name.to_vec(), u64::from(inode)));
        }
        rest = behind;
    }
    Ok(())
}
