//! The plain answers of the file system, which the FUSE adapter translates.

use rustix::fs::{Stat, Statx, StatxTimestamp};

use crate::sys::process;

/// FUSE node id, which is also `st_ino`.
pub type NodeId = u64;

/// The root directory.
pub const ROOT_ID: NodeId = 1;

/// The node of lower row `row`.
pub(crate) fn lower_id(row: u32) -> NodeId {
    NodeId::from(row) + 1
}

/// Numbers of objects that exist only in the upper, if 32 bits do not suffice: this plus their
/// number there.
const WIDE_BASE: NodeId = 1 << 40;
/// The numbers of the upper begin here if the lower has fewer rows, so that most systems keep them with other
/// layers too.
const BASE_MIN: NodeId = 1 << 20;

/// Owners of node ids: the rows of the lower come first, with room for those of other revisions, then the objects that exist only in the upper. Programs that
/// have 32 bits for an inode number see all of them as long as the upper's file system numbers its own so.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    base: NodeId,
}

impl Numbers {
    /// For a lower with `rows` rows.
    pub fn new(rows: u32) -> Numbers {
        let base = (NodeId::from(rows) + 1).next_power_of_two().max(BASE_MIN);
        Numbers { base }
    }

    /// The same numbers as a mount before, which began those of the upper at `base`.
    pub(crate) fn from(base: NodeId) -> Numbers {
        Numbers { base }
    }

    /// The first number of the upper.
    pub(crate) fn base(self) -> NodeId {
        self.base
    }

    /// The lower row of a node, if its number is one of the lower's.
    pub(crate) fn row_of(self, id: NodeId) -> Option<u32> {
        let row = id.checked_sub(1).and_then(|row| u32::try_from(row).ok());
        row.filter(|row| *row < self.rows_max())
    }

    /// Rows have smaller numbers, whichever revision is mounted.
    pub(crate) fn rows_max(self) -> u32 {
        u32::try_from(self.base - 1).unwrap_or(u32::MAX)
    }

    /// The node of the upper's inode `number`.
    pub(crate) fn upper_id(self, number: u64) -> NodeId {
        let narrow = self.base.checked_add(number);
        match narrow.filter(|id| *id <= NodeId::from(u32::MAX)) {
            Some(id) => id,
            None => WIDE_BASE.wrapping_add(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_rows_and_of_the_upper_are_apart_and_short_while_they_can_be() {
        let many = u32::MAX - 1;
        for rows in [1, 1000, (1 << 20) - 1, 1 << 20, 5_000_000, 1 << 31, many] {
            let numbers = Numbers::new(rows);
            assert_eq!(numbers.row_of(0), None);
            assert_eq!(numbers.row_of(lower_id(rows - 1)), Some(rows - 1));
            assert!(numbers.rows_max() >= rows, "room for other revisions");
            let beyond = lower_id(numbers.rows_max());
            assert_eq!(numbers.row_of(beyond), None);
            let mut seen = std::collections::HashSet::new();
            for number in [0, 1, 2, 1 << 20, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 41] {
                let id = numbers.upper_id(number);
                assert_eq!(numbers.row_of(id), None, "{rows} {number}");
                assert!(seen.insert(id), "{rows} {number}");
                let sum = u64::from(rows) + number;
                assert!(sum >= 1 << 31 || id < 1 << 32, "{rows} {number}: {id}");
            }
        }
        let (one, other) = (Numbers::new(40_000), Numbers::new(900_000));
        assert_eq!(one.upper_id(77), other.upper_id(77), "with other layers");
    }
}

pub use layerfmt::layout::inode::{
    S_IFBLK as BLOCK, S_IFCHR as CHARACTER, S_IFDIR as DIRECTORY, S_IFIFO as FIFO,
    S_IFLNK as SYMLINK, S_IFMT as TYPE_MASK, S_IFREG as REGULAR, S_IFSOCK as SOCKET,
};

/// The set-user-ID bit.
pub const SUID: u32 = 0o4000;
/// The set-group-ID bit.
pub const SGID: u32 = 0o2000;

/// A time: seconds and nanoseconds.
pub type Time = (i64, u32);

/// The attributes of stat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Node id and `st_ino`.
    pub ino: NodeId,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Time of the last access.
    pub atime: Time,
    /// Time of the last modification.
    pub mtime: Time,
    /// Last change of attributes.
    pub ctime: Time,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// User ID of the owner.
    pub uid: u32,
    /// ID of the group.
    pub gid: u32,
    /// Major and minor of a device.
    pub rdev: (u32, u32),
    /// With the number it identifies one object forever; not part of stat(2).
    pub generation: u32,
}

impl Attr {
    /// Converts attributes from the upper's file system for an object with number `ino`.
    pub fn from_stat(ino: NodeId, stat: &Stat) -> Attr {
        let nsec = |nsec: u64| u32::try_from(nsec).unwrap_or(0);
        Attr {
            ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
            atime: (stat.st_atime, nsec(stat.st_atime_nsec)),
            mtime: (stat.st_mtime, nsec(stat.st_mtime_nsec)),
            ctime: (stat.st_ctime, nsec(stat.st_ctime_nsec)),
            mode: stat.st_mode,
            nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            ),
            generation: 0,
        }
    }

    /// Converts like [`Attr::from_stat`].
    pub fn from_statx(ino: NodeId, stat: &Statx) -> Attr {
        let time = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
        Attr {
            ino,
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            atime: time(stat.stx_atime),
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
            mode: stat.stx_mode.into(),
            nlink: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            rdev: (stat.stx_rdev_major, stat.stx_rdev_minor),
            generation: 0,
        }
    }

    /// The type bits of the mode.
    pub fn kind(&self) -> u32 {
        self.mode & TYPE_MASK
    }

    /// True if executing the file grants another user's or group's permissions.
    pub fn gives_rights(&self) -> bool {
        self.kind() == REGULAR && self.mode & (SUID | SGID) != 0
    }
}

/// One entry of a directory listing.
#[derive(Debug)]
pub struct DirItem<'a> {
    /// Name of the entry.
    pub name: &'a [u8],
    /// Node id and `d_ino`.
    pub ino: NodeId,
    /// The type bits of the mode.
    pub kind: u32,
    /// Cookie of the position after this entry.
    pub cookie: u64,
    /// Attributes, if requested; `.` and `..` have none.
    pub attr: Option<Attr>,
}

/// The process that sent the request.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// File system user.
    pub uid: u32,
    /// File system group.
    pub gid: u32,
    /// Its process, for a look-up of its other groups.
    pub pid: u32,
}

impl Caller {
    /// The user and group of a request without a caller: with idmapped mounts the kernel sends
    /// these only for new objects.
    const UNTOLD: u32 = u32::MAX;

    /// The same with user and group, looked up if necessary; nobody's if the process is not found.
    #[must_use]
    pub fn known(self) -> Caller {
        if self.uid != Caller::UNTOLD {
            return self;
        }
        let (uid, gid) = process::ids_of(self.pid).unwrap_or((Caller::UNTOLD, Caller::UNTOLD));
        Caller { uid, gid, ..self }
    }

    /// True for root.
    pub fn is_root(self) -> bool {
        self.known().uid == 0
    }
}

/// A new time for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewTime {
    /// Exactly this time.
    Exactly(Time),
    /// The current time.
    Now,
}

/// The attributes to change with setattr.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes {
    /// The new permission bits.
    pub mode: Option<u32>,
    /// The new owner.
    pub uid: Option<u32>,
    /// The new group.
    pub gid: Option<u32>,
    /// The new size in bytes.
    pub size: Option<u64>,
    /// The new access time.
    pub atime: Option<NewTime>,
    /// The new modification time.
    pub mtime: Option<NewTime>,
}

/// The fields of statfs(2).
#[derive(Debug, Clone, Copy, Default)]
pub struct Space {
    /// Size in fragments.
    pub blocks: u64,
    /// Number of free blocks.
    pub free: u64,
    /// Free for ordinary users.
    pub available: u64,
    /// Number of inodes.
    pub files: u64,
    /// Number of free inodes.
    pub files_free: u64,
    /// Block size, bytes.
    pub block_len: u32,
    /// Fragment size, bytes.
    pub fragment_len: u32,
    /// Longest name, bytes.
    pub name_len_max: u32,
}
