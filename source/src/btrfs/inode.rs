//! An inode: its item and its attributes.

use std::io;
use std::sync::Arc;

use layerfmt::limits::XATTRS_PER_INODE_MAX;
use layerfmt::tree::{Metadata, Time, Xattrs};

use super::names::{XATTR_ITEM, names};
use super::tree::{ItemKey, TreePointer, Trees};
use crate::fields::{le32, le64};
use crate::walk::{WalkKind, damaged};

/// The kind of an inode's item.
const INODE_ITEM: u8 = 1;
/// Flag: the data has no checksums.
const NO_DATA_SUM: u64 = 1;

/// One inode, as read.
#[derive(Debug)]
pub(super) struct BtrfsInode {
    pub(super) size: u64,
    pub(super) links: u32,
    pub(super) mode: u32,
    device: u64,
    flags: u64,
    pub(super) meta: Metadata,
}

impl BtrfsInode {
    /// The object `object` of a tree.
    pub(super) fn read(trees: &mut Trees, tree: TreePointer, object: u64) -> io::Result<Self> {
        let mut found = None;
        let mut xattrs = Xattrs::new();
        let range = (
            ItemKey::first(object, INODE_ITEM),
            ItemKey::last(object, XATTR_ITEM),
        );
        trees.scan(tree, range, &mut |key, item| {
            match key.kind {
                INODE_ITEM => found = Some(parse(item)?),
                XATTR_ITEM => {
                    for named in names(item) {
                        let named = named?;
                        xattrs.insert(named.name.into(), named.value.into());
                    }
                }
                _ => {}
            }
            if xattrs.len() > XATTRS_PER_INODE_MAX {
                return Err(damaged("it has too many attributes"));
            }
            Ok(())
        })?;
        let mut inode = found.ok_or_else(|| damaged(format!("there is no object {object}")))?;
        inode.meta.xattrs = (!xattrs.is_empty()).then(|| Arc::new(xattrs));
        Ok(inode)
    }

    /// True if its data has checksums.
    pub(super) fn has_sums(&self) -> bool {
        self.flags & NO_DATA_SUM == 0
    }

    /// A device's numbers, which have 12 and 20 bits.
    pub(super) fn device(&self, kind: impl Fn(u32, u32) -> WalkKind) -> WalkKind {
        let device = (self.device & u64::from(u32::MAX)) as u32;
        kind(device >> 20, device & 0xf_ffff)
    }
}

fn parse(item: &[u8]) -> io::Result<BtrfsInode> {
    let mode = le32(item, 52)?;
    Ok(BtrfsInode {
        size: le64(item, 16)?,
        links: le32(item, 40)?,
        mode,
        device: le64(item, 56)?,
        flags: le64(item, 64)?,
        meta: Metadata {
            mode: (mode & 0o7777) as u16,
            uid: le32(item, 44)?,
            gid: le32(item, 48)?,
            mtime: Time {
                sec: le64(item, 136)?.cast_signed(),
                nsec: le32(item, 144)?.min(999_999_999),
            },
            xattrs: None,
        },
    })
}
