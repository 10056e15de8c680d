//! The inode flags of ioctl(2) that lsattr and chattr use, in the kernel's encoding: `FS_IOC_GETFLAGS` and its
//! newer siblings.

use fuser::ReplyIoctl;

use super::Adapter;
use super::answers::RequestContext;
use crate::error::Result;
use crate::filesystem::Protection;
use crate::sys;

/// `FS_IOC_GETFLAGS`, `FS_IOC_SETFLAGS` of <linux/fs.h>, for programs of 64 and of 32 bits.
const GET_FLAGS: [u32; 2] = [0x8008_6601, 0x8004_6601];
const SET_FLAGS: [u32; 2] = [0x4008_6602, 0x4004_6602];
/// `FS_IOC_FSGETXATTR`, `FS_IOC_FSSETXATTR`, and the length of their `struct fsxattr`.
const GET_EXTENDED: u32 = 0x801c_581f;
const SET_EXTENDED: u32 = 0x401c_5820;
const EXTENDED_LEN: usize = 28;

/// A flag in the two forms: `FS_IMMUTABLE_FL` and `FS_XFLAG_IMMUTABLE`, `FS_APPEND_FL` and `FS_XFLAG_APPEND`.
struct Bits {
    immutable: u32,
    append_only: u32,
}

const FLAGS: Bits = Bits {
    immutable: 0x10,
    append_only: 0x20,
};
const EXTENDED: Bits = Bits {
    immutable: 0x8,
    append_only: 0x10,
};

impl Bits {
    fn of(&self, protection: Protection) -> u32 {
        let bit = |set, bit| if set { bit } else { 0 };
        bit(protection.immutable, self.immutable) | bit(protection.append_only, self.append_only)
    }

    /// EOPNOTSUPP for an unsupported flag.
    fn protection(&self, bits: u32) -> sys::Result<Protection> {
        if bits & !(self.immutable | self.append_only) != 0 {
            return Err(sys::Errno::OPNOTSUPP);
        }
        Ok(Protection {
            immutable: bits & self.immutable != 0,
            append_only: bits & self.append_only != 0,
        })
    }
}

fn first_word(data: &[u8]) -> sys::Result<u32> {
    let word = data.first_chunk().ok_or(sys::Errno::INVAL)?;
    Ok(u32::from_ne_bytes(*word))
}

impl Adapter {
    /// Answers an IOCTL request.
    pub(super) fn inode_flags(
        &self,
        asked: &RequestContext<'_>,
        command: u32,
        data: &[u8],
        reply: ReplyIoctl,
    ) {
        match self.flags_asked(asked.node, command, data) {
            Ok(answer) => reply.ioctl(0, &answer),
            Err(error) => reply.error(asked.refuse(&error)),
        }
    }

    fn flags_asked(&self, id: u64, command: u32, data: &[u8]) -> Result<Vec<u8>> {
        match command {
            _ if GET_FLAGS.contains(&command) => {
                let flags = FLAGS.of(self.fs.protection(id)?);
                Ok(flags.to_ne_bytes().to_vec())
            }
            _ if SET_FLAGS.contains(&command) => {
                let wanted = FLAGS.protection(first_word(data)?)?;
                self.fs.protect(id, wanted).map(|()| Vec::new())
            }
            GET_EXTENDED => {
                let flags = EXTENDED.of(self.fs.protection(id)?);
                let mut answer = flags.to_ne_bytes().to_vec();
                answer.resize(EXTENDED_LEN, 0);
                Ok(answer)
            }
            SET_EXTENDED => {
                let rest = data.get(4..).unwrap_or_default();
                if rest.iter().any(|byte| *byte != 0) {
                    return Err(sys::Errno::OPNOTSUPP.into());
                }
                let wanted = EXTENDED.protection(first_word(data)?)?;
                self.fs.protect(id, wanted).map(|()| Vec::new())
            }
            _ => Err(sys::Errno::NOTTY.into()),
        }
    }
}
