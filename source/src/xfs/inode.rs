//! An inode's fields.

use std::io;

use layerfmt::tree::{Metadata, Time};

use super::check_sum;
use super::superblock::XfsSuperblock;
use crate::fields::{be16, be32, be64, byte};
use crate::walk::{WalkKind, damaged, unknown};

/// First bytes of an inode.
const MARK: u16 = 0x494e;
/// Offset of the checksum.
const CHECKSUM: usize = 100;
/// Bytes before the forks, of inodes without and with a checksum.
const CORE_LEN: [usize; 2] = [100, 176];
/// The file's bytes are in the real-time section.
const REALTIME: u16 = 1;
/// Times count nanoseconds from 1901 on.
const BIG_TIMES: u64 = 1 << 3;
/// Counters of extents have 64 bits.
const BIG_COUNTS: u64 = 1 << 4;
/// The first second that such times have.
const BIG_TIMES_FROM: i64 = -(1 << 31);
const NANOSECONDS: u64 = 1_000_000_000;

/// The form of a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForkFormat {
    /// A device number.
    Device,
    /// The bytes themselves.
    Local,
    /// A list of extents.
    Extents,
    /// The root of a tree of extents.
    Tree,
}

impl ForkFormat {
    fn parse(code: u8) -> io::Result<Self> {
        match code {
            0 => Ok(ForkFormat::Device),
            1 => Ok(ForkFormat::Local),
            2 => Ok(ForkFormat::Extents),
            3 => Ok(ForkFormat::Tree),
            other => Err(unknown(format!("a fork of form {other} is not supported"))),
        }
    }
}

/// One of the two forks of an inode: its form, its bytes, and the number of its extents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fork<'i> {
    pub(super) format: ForkFormat,
    pub(super) bytes: &'i [u8],
    pub(super) extents: u64,
}

/// One inode, as read.
#[derive(Debug)]
pub(super) struct XfsInode {
    bytes: Vec<u8>,
    pub(super) number: u64,
    pub(super) mode: u16,
    pub(super) size: u64,
    pub(super) links: u32,
    /// The form of its data.
    pub(super) format: ForkFormat,
    flags: u16,
    flags2: u64,
    /// Offset of the forks.
    core_len: usize,
    /// Offset of the attributes, unless there are none.
    attributes_at: Option<usize>,
}

impl XfsInode {
    pub(super) fn parse(
        bytes: Vec<u8>,
        superblock: &XfsSuperblock,
        number: u64,
    ) -> io::Result<Self> {
        let version = byte(&bytes, 4)?;
        let expected = match superblock.has_checksums {
            true => version == 3,
            false => matches!(version, 1 | 2),
        };
        if be16(&bytes, 0)? != MARK || !expected {
            return Err(damaged("there is no inode at its place"));
        }
        let [plain, checked] = CORE_LEN;
        let mut core_len = plain;
        let mut flags2 = 0;
        if superblock.has_checksums {
            check_sum(&bytes, CHECKSUM)?;
            if be64(&bytes, 152)? != number {
                return Err(damaged("another inode is at its place"));
            }
            core_len = checked;
            flags2 = be64(&bytes, 120)?;
        }
        let links = match version {
            1 => u32::from(be16(&bytes, 6)?),
            _ => be32(&bytes, 16)?,
        };
        let attributes_at = match usize::from(byte(&bytes, 82)?) {
            0 => None,
            units => Some(core_len + units * 8),
        };
        if attributes_at.is_some_and(|at| at >= bytes.len()) {
            return Err(damaged("its attributes are outside"));
        }
        Ok(XfsInode {
            number,
            mode: be16(&bytes, 2)?,
            size: be64(&bytes, 56)?,
            links,
            format: ForkFormat::parse(byte(&bytes, 5)?)?,
            flags: be16(&bytes, 90)?,
            flags2,
            core_len,
            attributes_at,
            bytes,
        })
    }

    pub(super) fn is_realtime(&self) -> bool {
        self.flags & REALTIME != 0
    }

    /// The bytes of the data fork.
    pub(super) fn data(&self) -> &[u8] {
        let end = self.attributes_at.unwrap_or(self.bytes.len());
        self.bytes.get(self.core_len..end).unwrap_or_default()
    }

    /// The fork with the data.
    pub(super) fn data_fork(&self) -> io::Result<Fork<'_>> {
        let extents = match self.flags2 & BIG_COUNTS {
            0 => u64::from(be32(&self.bytes, 76)?),
            _ => be64(&self.bytes, 24)?,
        };
        Ok(Fork {
            format: self.format,
            bytes: self.data(),
            extents,
        })
    }

    /// The fork with the attributes.
    pub(super) fn attribute_fork(&self) -> io::Result<Option<Fork<'_>>> {
        let Some(at) = self.attributes_at else {
            return Ok(None);
        };
        let extents = match self.flags2 & BIG_COUNTS {
            0 => u64::from(be16(&self.bytes, 80)?),
            _ => u64::from(be32(&self.bytes, 76)?),
        };
        Ok(Some(Fork {
            format: ForkFormat::parse(byte(&self.bytes, 83)?)?,
            bytes: self.bytes.get(at..).unwrap_or_default(),
            extents,
        }))
    }

    /// Everything but the attributes.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        Ok(Metadata {
            mode: self.mode & 0o7777,
            uid: be32(&self.bytes, 8)?,
            gid: be32(&self.bytes, 12)?,
            mtime: self.modified()?,
            xattrs: None,
        })
    }

    fn modified(&self) -> io::Result<Time> {
        if self.flags2 & BIG_TIMES != 0 {
            let count = be64(&self.bytes, 40)?;
            let sec = (count / NANOSECONDS).cast_signed();
            let nsec = u32::try_from(count % NANOSECONDS).unwrap_or_default();
            return Ok(Time {
                sec: sec + BIG_TIMES_FROM,
                nsec,
            });
        }
        Ok(Time {
            sec: i64::from(be32(&self.bytes, 40)?.cast_signed()),
            nsec: be32(&self.bytes, 44)?.min(999_999_999),
        })
    }

    /// A device's numbers, which have 9 and 18 bits.
    pub(super) fn device(&self, kind: impl Fn(u32, u32) -> WalkKind) -> io::Result<WalkKind> {
        let device = be32(self.data(), 0)?;
        Ok(kind(device >> 18 & 0x1ff, device & 0x3_ffff))
    }
}
