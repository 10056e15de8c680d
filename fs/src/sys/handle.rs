//! The generation of an object, which distinguishes it from an earlier one with the same inode
//! number.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use rustix::fs::{AtFlags, Statx, StatxFlags};

use super::object::At;
use super::{Errno, Result};

/// Longest handle (`MAX_HANDLE_SZ` of <fcntl.h>), bytes.
const HANDLE_LEN_MAX: usize = 128;

/// `struct file_handle` with room for its handle.
#[repr(C)]
struct Handle {
    len: libc::c_uint,
    kind: libc::c_int,
    bytes: [u8; HANDLE_LEN_MAX],
}

/// Two objects of one file system with the same inode number have different generations.
///
/// # Errors
/// EOPNOTSUPP if the file system has no handles, or the error of name_to_handle_at(2).
pub(crate) fn generation(at: &At<'_>) -> Result<u32> {
    let (dir, name, flags): (RawFd, &[u8], _) = match at {
        At::Name(dir, name) => (dir.as_raw_fd(), name, 0),
        At::Open(fd) => (fd.as_raw_fd(), b"", libc::AT_EMPTY_PATH),
        At::File(fd) => (fd.as_raw_fd(), b"", libc::AT_EMPTY_PATH),
    };
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let mut handle = Handle {
        len: HANDLE_LEN_MAX as libc::c_uint,
        kind: 0,
        bytes: [0; HANDLE_LEN_MAX],
    };
    let mut mount = 0;
    // SAFETY: the name ends with NUL, and the handle has the space given by its first field.
    let done = unsafe {
        libc::name_to_handle_at(
            dir,
            name.as_ptr(),
            (&raw mut handle).cast::<libc::file_handle>(),
            &raw mut mount,
            flags,
        )
    };
    if done != 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    let len = usize::try_from(handle.len).unwrap_or(HANDLE_LEN_MAX);
    Ok(fold(handle.bytes.get(..len).unwrap_or(&handle.bytes)))
}

/// True if the file system of `fd` uses no inode number twice and has birth times. tmpfs counts up;
/// after an overflow (32 bits) the birth times differ.
pub(crate) fn uses_numbers_once(fd: &OwnedFd) -> bool {
    let is_tmpfs = rustix::fs::fstatfs(fd).is_ok_and(|about| about.f_type == libc::TMPFS_MAGIC);
    let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME);
    let knows =
        |stat: Statx| StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    is_tmpfs && stat.is_ok_and(knows)
}

/// The generation of an object of such a file system. Needs no further system call.
pub(crate) fn of_birth(stat: &Statx) -> u32 {
    let time = stat.stx_btime;
    let mixed = time.tv_sec.wrapping_shl(20) ^ i64::from(time.tv_nsec);
    u32::try_from(mixed & i64::from(u32::MAX)).unwrap_or(1)
}

/// A generation for objects of a file system that has none: a different one for each mount.
pub(crate) fn first_unused() -> u32 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let mixed = now.tv_sec.wrapping_shl(20) ^ now.tv_nsec;
    u32::try_from(mixed & i64::from(u32::MAX)).unwrap_or(1)
}

/// A handle has the inode number and a 32-bit generation: if only these differ, so does this value.
fn fold(handle: &[u8]) -> u32 {
    handle.chunks(4).fold(0, |sum, chunk| {
        let mut word = [0; 4];
        word.iter_mut()
            .zip(chunk)
            .for_each(|(to, from)| *to = *from);
        sum ^ u32::from_le_bytes(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_generation_is_another_sum() {
        let handle = |number: u32, generation: u32| {
            [number.to_le_bytes(), generation.to_le_bytes()].concat()
        };
        assert_ne!(fold(&handle(12, 5)), fold(&handle(12, 6)));
        let unaligned = |generation: u32| [&[7; 5][..], &generation.to_le_bytes()].concat();
        assert_ne!(fold(&unaligned(1 << 24)), fold(&unaligned(1)));
    }
}
