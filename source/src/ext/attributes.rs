//! Extended attributes: in the inode, in a block of their own, or with values in inodes.

use std::io;
use std::sync::Arc;

use layerfmt::tree::Xattrs;

use super::inode::ExtInode;
use super::{Ext, number, u16_at, u32_at};
use crate::acl;
use crate::limits::EXT_ATTRIBUTE_LEN_MAX;
use crate::walk::{damaged, unknown};

const MARK: u32 = 0xea02_0000;
/// Bytes before the first entry in a block.
const BLOCK_HEADER_LEN: usize = 32;
/// The attribute that holds the part of a small file that does not fit into the inode.
const INLINE_DATA: (u8, &[u8]) = (7, b"data");
/// Tags of an ACL whose entries have a number.
const WITH_NUMBER: [u16; 2] = [0x02, 0x08];

/// One attribute: the number of its prefix, the rest of its name, its value.
type FoundAttribute = (u8, Vec<u8>, Vec<u8>);

impl Ext {
    /// The attributes that programs see.
    pub(super) fn attributes(&self, inode: &ExtInode) -> io::Result<Option<Arc<Xattrs>>> {
        let mut xattrs = Xattrs::new();
        for (prefix, rest, value) in self.found(inode)? {
            if (prefix, &*rest) == INLINE_DATA {
                continue;
            }
            let (name, value) = named(prefix, &rest, value)?;
            xattrs.insert(name.into(), value.into());
        }
        Ok((!xattrs.is_empty()).then(|| Arc::new(xattrs)))
    }

    /// The part of a small file or directory that does not fit into the inode.
    pub(super) fn inline_rest(&self, inode: &ExtInode) -> io::Result<Vec<u8>> {
        let found = self.found(inode)?;
        let rest = found
            .into_iter()
            .find(|(prefix, rest, _)| (*prefix, &**rest) == INLINE_DATA);
        Ok(rest.map(|(.., value)| value).unwrap_or_default())
    }

    fn found(&self, inode: &ExtInode) -> io::Result<Vec<FoundAttribute>> {
        let mut found = Vec::new();
        let inside = inode
            .bytes()
            .get(128 + inode.extra_len..)
            .unwrap_or_default();
        if inode.extra_len > 0 && inside.len() >= 8 && u32_at(inside, 0)? == MARK {
            let entries = inside.get(4..).unwrap_or_default();
            self.entries(entries, 0, &mut found)?;
        }
        if inode.attribute_block != 0 {
            let block = self.block(inode.attribute_block)?;
            if u32_at(&block, 0)? != MARK {
                return Err(damaged("its attributes are damaged"));
            }
            self.entries(&block, BLOCK_HEADER_LEN, &mut found)?;
        }
        Ok(found)
    }

    /// The entries of `area` from `at` on; each names its value by an offset in `area`.
    fn entries(
        &self,
        area: &[u8],
        mut at: usize,
        found: &mut Vec<FoundAttribute>,
    ) -> io::Result<()> {
        while area.len() >= at + 4 && u32_at(area, at)? != 0 {
            let [name_len, prefix] = number(area, at)?;
            let (offset, holder) = (u16_at(area, at + 2)?, u32_at(area, at + 4)?);
            let len = u32_at(area, at + 8)?;
            let name = area.get(at + 16..at + 16 + usize::from(name_len));
            let name = name.ok_or_else(|| damaged("an attribute is cut off"))?;
            let value = match holder {
                0 => {
                    let (start, len) = (usize::from(offset), len as usize);
                    let value = area.get(start..start.saturating_add(len));
                    value
                        .ok_or_else(|| damaged("an attribute is cut off"))?
                        .to_vec()
                }
                holder => self.whole(&self.inode(u64::from(holder))?, EXT_ATTRIBUTE_LEN_MAX)?,
            };
            found.push((prefix, name.to_vec(), value));
            at += (16 + usize::from(name_len)).next_multiple_of(4);
        }
        Ok(())
    }
}

/// The name and value as programs see them.
fn named(prefix: u8, rest: &[u8], value: Vec<u8>) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let prefix: &[u8] = match prefix {
        1 => b"user.",
        2 => return Ok((b"system.posix_acl_access".to_vec(), list(&value)?)),
        3 => return Ok((b"system.posix_acl_default".to_vec(), list(&value)?)),
        4 => b"trusted.",
        6 => b"security.",
        7 => b"system.",
        other => return Err(unknown(format!("an attribute of kind {other} is not read"))),
    };
    Ok(([prefix, rest].concat(), value))
}

/// An ACL in the form of programs: ext4 omits the numbers of entries without one.
fn list(value: &[u8]) -> io::Result<Vec<u8>> {
    if u32_at(value, 0)? != 1 {
        return Err(damaged("an ACL is of an unknown version"));
    }
    let mut list = Vec::new();
    let mut at = 4;
    while at < value.len() {
        let (tag, permissions) = (u16_at(value, at)?, u16_at(value, at + 2)?);
        at += 4;
        let mut id = u32::MAX;
        if WITH_NUMBER.contains(&tag) {
            id = u32_at(value, at)?;
            at += 4;
        }
        list.push((tag, permissions, id));
    }
    Ok(acl::attribute_value(&list))
}
