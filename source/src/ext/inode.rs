//! An inode's fields.

use std::io;

use layerfmt::tree::{Metadata, Time};

use super::{Ext, u16_at, u32_at};
use crate::walk::{WalkKind, damaged};

const EXTENTS: u32 = 0x8_0000;
const ENCRYPTED: u32 = 0x800;
const INLINE: u32 = 0x1000_0000;
/// Links shorter than this are in the inode.
const SHORT_LINK_LEN: u64 = 60;
/// Longest target of a link.
const LINK_LEN_MAX: u64 = 4096;

/// One inode, as read.
#[derive(Debug)]
pub(super) struct ExtInode {
    bytes: Vec<u8>,
    mode: u16,
    pub(super) size: u64,
    pub(super) links: u32,
    flags: u32,
    /// The block with its attributes; 0 for none.
    pub(super) attribute_block: u64,
    /// Bytes beyond the first 128 that are in use.
    pub(super) extra_len: usize,
}

impl ExtInode {
    pub(super) fn parse(bytes: Vec<u8>) -> io::Result<Self> {
        let mode = u16_at(&bytes, 0)?;
        let (low, high) = (u32_at(&bytes, 4)?, u32_at(&bytes, 108)?);
        // Only the low half is the length of a link.
        let high = if mode >> 9 & 0o170 == 0o120 { 0 } else { high };
        let extra_len = if bytes.len() > 128 {
            u16_at(&bytes, 128)?
        } else {
            0
        };
        Ok(ExtInode {
            mode,
            size: u64::from(high) << 32 | u64::from(low),
            links: u32::from(u16_at(&bytes, 26)?),
            flags: u32_at(&bytes, 32)?,
            attribute_block: u64::from(u16_at(&bytes, 118)?) << 32
                | u64::from(u32_at(&bytes, 104)?),
            extra_len: usize::from(extra_len),
            bytes,
        })
    }

    /// All its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The sixty bytes that locate the blocks, or are data themselves.
    pub(super) fn blocks(&self) -> &[u8] {
        self.bytes.get(40..100).unwrap_or_default()
    }

    /// The file type, as in the upper digits of the octal mode.
    pub(super) fn format(&self) -> u16 {
        self.mode >> 9 & 0o170
    }

    pub(super) fn has_extents(&self) -> bool {
        self.flags & EXTENTS != 0
    }

    pub(super) fn is_inline(&self) -> bool {
        self.flags & INLINE != 0
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.flags & ENCRYPTED != 0
    }

    /// Everything but the attributes.
    pub(super) fn metadata(&self) -> Metadata {
        let word = |at| u32_at(&self.bytes, at).unwrap_or_default();
        let half = |at| u32::from(u16_at(&self.bytes, at).unwrap_or_default());
        let extra = if self.extra_len >= 12 { word(136) } else { 0 };
        let epoch = i64::from(extra & 3) << 32;
        Metadata {
            mode: self.mode & 0o7777,
            uid: half(120) << 16 | half(2),
            gid: half(122) << 16 | half(24),
            mtime: Time {
                sec: i64::from(word(16).cast_signed()) + epoch,
                nsec: (extra >> 2).min(999_999_999),
            },
            xattrs: None,
        }
    }

    /// A device's numbers: in the old place, or in the new one.
    pub(super) fn device(&self, kind: impl Fn(u32, u32) -> WalkKind) -> io::Result<WalkKind> {
        let (old, new) = (u32_at(&self.bytes, 40)?, u32_at(&self.bytes, 44)?);
        Ok(if old != 0 {
            kind(old >> 8 & 0xff, old & 0xff)
        } else {
            kind(new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00)
        })
    }
}

impl Ext {
    /// The target of a symbolic link.
    pub(super) fn target(&self, inode: &ExtInode) -> io::Result<Box<[u8]>> {
        let target = if inode.size < SHORT_LINK_LEN {
            let len = usize::try_from(inode.size).unwrap_or_default();
            inode.blocks().get(..len).unwrap_or_default().to_vec()
        } else {
            self.whole(inode, LINK_LEN_MAX)?
        };
        if target.is_empty() || target.contains(&0) {
            return Err(damaged("the target of a link is damaged"));
        }
        Ok(target.into())
    }
}
