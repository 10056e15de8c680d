//! Translates the file system's answers into the types of the fuser crate, and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, Generation, INodeNo, TimeOrNow};

use crate::error::Result;
use crate::filesystem::reply::{
    Attr, BLOCK, CHARACTER, DIRECTORY, DirItem, FIFO, NewTime, REGULAR, SOCKET, SYMLINK, Time,
};
use crate::sys;

/// Bytes per block in stat(2).
const BLOCK_LEN: u32 = 4096;

/// An errno for the kernel.
pub(super) fn errno(errno: sys::Errno) -> Errno {
    Errno::from_i32(errno.raw_os_error())
}

/// A time for the kernel.
fn system_time((sec, nsec): Time) -> SystemTime {
    let whole = Duration::from_secs(sec.unsigned_abs());
    let base = if sec < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    base.and_then(|base| base.checked_add(Duration::from_nanos(nsec.into())))
        .unwrap_or(UNIX_EPOCH)
}

/// A time from the kernel. fuser 0.18 counts the nanoseconds of a time before 1970 backward: the
/// kernel's -5 s and 1 ns become -5.000000001 s.
pub(super) fn new_time(time: TimeOrNow) -> NewTime {
    let time = match time {
        TimeOrNow::Now => return NewTime::Now,
        TimeOrNow::SpecificTime(time) => time,
    };
    let seconds = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    NewTime::Exactly(match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (seconds(after), after.subsec_nanos()),
        Err(error) => {
            let before = error.duration();
            (-seconds(before), before.subsec_nanos())
        }
    })
}

/// Start of the search for lseek(2), and true for a hole.
pub(super) fn data_or_hole(offset: i64, whence: i32) -> Result<(u64, bool)> {
    match (u64::try_from(offset), whence) {
        (Err(_), _) => Err(sys::Errno::NXIO.into()),
        (Ok(at), libc::SEEK_DATA) => Ok((at, false)),
        (Ok(at), libc::SEEK_HOLE) => Ok((at, true)),
        _ => Err(sys::Errno::INVAL.into()),
    }
}

/// Type bits as fuser's type.
pub(super) fn file_type(kind: u32) -> FileType {
    match kind {
        DIRECTORY => FileType::Directory,
        SYMLINK => FileType::Symlink,
        CHARACTER => FileType::CharDevice,
        BLOCK => FileType::BlockDevice,
        FIFO => FileType::NamedPipe,
        SOCKET => FileType::Socket,
        REGULAR => FileType::RegularFile,
        _ => FileType::RegularFile,
    }
}

/// Attributes for the kernel.
pub(super) fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind()),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: sys::encode_device(attr.rdev.0, attr.rdev.1),
        blksize: BLOCK_LEN,
        flags: 0,
    }
}

/// Attributes of a directory entry. For `.` and `..` the kernel uses number and type only.
pub(super) fn listed(item: &DirItem<'_>) -> FileAttr {
    match &item.attr {
        Some(found) => attr(found),
        None => FileAttr {
            ino: INodeNo(item.ino),
            kind: file_type(item.kind),
            ..no_entry()
        },
    }
}

/// The generation of a directory entry.
pub(super) fn generation(item: &DirItem<'_>) -> Generation {
    Generation(item.attr.as_ref().map_or(0, |attr| attr.generation).into())
}

/// The answer to a name that does not exist, to be remembered by the kernel.
pub(super) fn no_entry() -> FileAttr {
    attr(&Attr {
        ino: 0,
        size: 0,
        blocks: 0,
        atime: (0, 0),
        mtime: (0, 0),
        ctime: (0, 0),
        mode: REGULAR,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: (0, 0),
        generation: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_survive() {
        let fusers = |(sec, nsec): Time| match u64::try_from(sec) {
            Ok(sec) => UNIX_EPOCH + Duration::new(sec, nsec),
            Err(_) => UNIX_EPOCH - Duration::new(sec.unsigned_abs(), nsec),
        };
        for time in [
            (0, 0),
            (5, 7),
            (-1, 0),
            (-1, 999_999_999),
            (-5, 1),
            (1 << 33, 3),
        ] {
            let there = TimeOrNow::SpecificTime(fusers(time));
            assert_eq!(new_time(there), NewTime::Exactly(time));
            let shown = system_time(time);
            let seconds = shown.duration_since(UNIX_EPOCH).map_or_else(
                |error| -error.duration().as_secs_f64(),
                |after| after.as_secs_f64(),
            );
            let right = time.0 as f64 + f64::from(time.1) / 1e9;
            assert!((seconds - right).abs() < 1e-6, "{time:?}: {seconds}");
        }
    }
}
