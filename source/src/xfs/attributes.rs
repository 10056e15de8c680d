//! Extended attributes: in the inode, or in blocks, with large values in blocks of their own.

use std::io;
use std::sync::Arc;

use layerfmt::limits::{XATTR_VALUE_LEN_MAX, XATTRS_PER_INODE_MAX};
use layerfmt::tree::Xattrs;

use super::inode::{ForkFormat, XfsInode};
use super::{BlockStamp, Xfs};
use crate::acl;
use crate::fields::{be16, be32, byte, slice};
use crate::image_extents::ImageExtents;
use crate::walk::damaged;

/// Flag: the value follows the name.
const LOCAL: u8 = 0x01;
const TRUSTED: u8 = 0x02;
const SECURITY: u8 = 0x04;
/// Another name of the object, which no program sees.
const PARENT: u8 = 0x08;
/// Flag: it was being made or removed.
const INCOMPLETE: u8 = 0x80;

/// ACLs have these names, among the trusted attributes.
const ACLS: [(&[u8], &[u8]); 2] = [
    (b"SGI_ACL_FILE", b"system.posix_acl_access"),
    (b"SGI_ACL_DEFAULT", b"system.posix_acl_default"),
];
/// Bytes of an entry of an ACL.
const ACL_ENTRY_LEN: usize = 12;

/// Marks of a leaf and of a node above leaves, without and with a checksum.
const LEAVES: [u16; 2] = [0xfbee, 0x3bee];
const NODES: [u16; 2] = [0xfebe, 0x3ebe];
/// Offset of the number of entries, and of the entries: of leaves, then of nodes.
const LEAF_COUNT: [usize; 2] = [12, 56];
const LEAF_ENTRIES: [usize; 2] = [32, 80];
const NODE_ENTRIES: [usize; 2] = [16, 64];
const STAMP: BlockStamp = BlockStamp {
    checksum: 12,
    owner: 48,
};
/// Most levels above the leaves.
const DEPTH_MAX: usize = 5;

/// First bytes of a block with a part of a large value, in version 5.
const VALUE_MARK: u32 = 0x5841_524d;
/// Bytes before the part.
const VALUE_HEADER_LEN: usize = 56;
const VALUE_STAMP: BlockStamp = BlockStamp {
    checksum: 12,
    owner: 32,
};

/// The attributes of one inode being read.
struct AttributeReading<'i> {
    inode: &'i XfsInode,
    extents: ImageExtents,
    found: Xattrs,
    /// Length of the values in blocks of their own, bytes.
    values_len: u64,
}

impl Xfs {
    /// The attributes that programs see.
    pub(super) fn attributes(&self, inode: &XfsInode) -> io::Result<Option<Arc<Xattrs>>> {
        let Some(fork) = inode.attribute_fork()? else {
            return Ok(None);
        };
        let mut reading = AttributeReading {
            inode,
            extents: ImageExtents::default(),
            found: Xattrs::new(),
            values_len: 0,
        };
        if fork.format == ForkFormat::Local {
            short(fork.bytes, &mut reading)?;
        } else {
            reading.extents = self.fork_extents(inode.number, &fork)?;
            if reading.extents.len() > 0 {
                reading.extents.check_distinct()?;
                self.leaves(&mut reading)?;
            }
        }
        let found = reading.found;
        Ok((!found.is_empty()).then(|| Arc::new(found)))
    }

    /// Descends to the first leaf and follows the chain of leaves.
    fn leaves(&self, reading: &mut AttributeReading<'_>) -> io::Result<()> {
        let wrong = || damaged("its attributes are damaged");
        let form = usize::from(self.superblock.has_checksums);
        let is = |marks: [u16; 2], mark| marks.get(form) == Some(&mark);
        let at = |offsets: [usize; 2]| offsets.get(form).copied().unwrap_or_default();
        let mut block = self.attribute_block(reading, 0)?;
        for _ in 0..DEPTH_MAX {
            if !is(NODES, be16(&block, 8)?) {
                break;
            }
            let first = be32(&block, at(NODE_ENTRIES) + 4)?;
            block = self.attribute_block(reading, u64::from(first))?;
        }
        // If there are more leaves than blocks, they form a loop.
        let blocks = reading.extents.len() / self.superblock.block_len;
        for _ in 0..blocks {
            if !is(LEAVES, be16(&block, 8)?) {
                return Err(wrong());
            }
            let count = usize::from(be16(&block, at(LEAF_COUNT))?);
            self.leaf(&block, at(LEAF_ENTRIES), count, reading)?;
            match be32(&block, 0)? {
                0 => return Ok(()),
                next => block = self.attribute_block(reading, u64::from(next))?,
            }
        }
        Err(wrong())
    }

    /// A block of the index of the attributes.
    fn attribute_block(&self, reading: &AttributeReading<'_>, number: u64) -> io::Result<Vec<u8>> {
        let block = self.fork_block(&reading.extents, number)?;
        self.check(&block, STAMP, reading.inode.number)?;
        Ok(block)
    }

    /// The block `number` of a fork.
    fn fork_block(&self, extents: &ImageExtents, number: u64) -> io::Result<Vec<u8>> {
        let len = self.superblock.block_len;
        let mut block = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        extents.read_exact(&self.image, number.saturating_mul(len), &mut block)?;
        Ok(block)
    }

    fn leaf(
        &self,
        block: &[u8],
        entries: usize,
        count: usize,
        reading: &mut AttributeReading<'_>,
    ) -> io::Result<()> {
        for place in 0..count {
            let entry = slice(block, entries + place * 8, 8)?;
            let (at, flags) = (usize::from(be16(entry, 4)?), byte(entry, 6)?);
            if flags & INCOMPLETE != 0 {
                continue;
            }
            if flags & LOCAL != 0 {
                let value_len = usize::from(be16(block, at)?);
                let name_len = usize::from(byte(block, at + 2)?);
                let name = slice(block, at + 3, name_len)?;
                let value = slice(block, at + 3 + name_len, value_len)?;
                reading.take(flags, name, value)?;
                continue;
            }
            let (first, len) = (be32(block, at)?, be32(block, at + 4)?);
            let name = slice(block, at + 9, usize::from(byte(block, at + 8)?))?;
            reading.values_len += u64::from(len);
            if reading.values_len > reading.extents.len() {
                return Err(damaged("two of its attributes share a value"));
            }
            let value = self.large_value(reading, u64::from(first), len as usize)?;
            reading.take(flags, name, &value)?;
        }
        Ok(())
    }

    /// A value in blocks of its own, from the block `number` of the fork on.
    fn large_value(
        &self,
        reading: &AttributeReading<'_>,
        mut number: u64,
        len: usize,
    ) -> io::Result<Vec<u8>> {
        if len > XATTR_VALUE_LEN_MAX {
            return Err(damaged("the value of an attribute is too long"));
        }
        let mut value = Vec::new();
        while value.len() < len {
            let block = self.fork_block(&reading.extents, number)?;
            number += 1;
            let missing = len - value.len();
            if !self.superblock.has_checksums {
                value.extend_from_slice(slice(&block, 0, missing.min(block.len()))?);
                continue;
            }
            self.check(&block, VALUE_STAMP, reading.inode.number)?;
            let (at, count) = (be32(&block, 4)? as usize, be32(&block, 8)? as usize);
            if be32(&block, 0)? != VALUE_MARK
                || at != value.len()
                || !(1..=missing).contains(&count)
            {
                return Err(damaged("the value of an attribute is damaged"));
            }
            value.extend_from_slice(slice(&block, VALUE_HEADER_LEN, count)?);
        }
        Ok(value)
    }
}

impl AttributeReading<'_> {
    /// One attribute, under the name that programs see.
    fn take(&mut self, flags: u8, name: &[u8], value: &[u8]) -> io::Result<()> {
        if flags & (PARENT | INCOMPLETE) != 0 {
            return Ok(());
        }
        if self.found.len() >= XATTRS_PER_INODE_MAX {
            return Err(damaged("it has too many attributes"));
        }
        let prefix: &[u8] = match flags & (TRUSTED | SECURITY) {
            0 => b"user.",
            TRUSTED => b"trusted.",
            SECURITY => b"security.",
            _ => return Err(damaged("an attribute has two kinds")),
        };
        let list = ACLS.iter().find(|(stored, _)| *stored == name);
        if let Some((_, shown)) = list.filter(|_| flags & TRUSTED != 0) {
            if let Some(value) = list_value(value)? {
                self.found.insert((*shown).into(), value.into());
            }
            return Ok(());
        }
        let name = [prefix, name].concat();
        self.found.insert(name.into(), value.into());
        Ok(())
    }
}

/// The attributes in the inode.
fn short(bytes: &[u8], reading: &mut AttributeReading<'_>) -> io::Result<()> {
    let (len, count) = (usize::from(be16(bytes, 0)?), byte(bytes, 2)?);
    let bytes = slice(bytes, 0, len)?;
    let mut at = 4;
    for _ in 0..count {
        let name_len = usize::from(byte(bytes, at)?);
        let value_len = usize::from(byte(bytes, at + 1)?);
        let flags = byte(bytes, at + 2)?;
        let name = slice(bytes, at + 3, name_len)?;
        let value = slice(bytes, at + 3 + name_len, value_len)?;
        reading.take(flags, name, value)?;
        at += 3 + name_len + value_len;
    }
    Ok(())
}

/// An ACL in the form of programs; none without entries.
fn list_value(value: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let count = be32(value, 0)? as usize;
    if count == 0 {
        return Ok(None);
    }
    let entries = slice(value, 4, count.saturating_mul(ACL_ENTRY_LEN))?;
    let mut list = Vec::new();
    for entry in entries.chunks_exact(ACL_ENTRY_LEN) {
        let tag = u16::try_from(be32(entry, 0)?);
        let tag = tag.map_err(|_| damaged("an ACL is damaged"))?;
        list.push((tag, be16(entry, 8)?, be32(entry, 4)?));
    }
    Ok(Some(acl::attribute_value(&list)))
}
