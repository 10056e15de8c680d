//! The index that overlayfs maintains in the work directory with `index=on`: one link to every
//! changed file with several names in the lower. layerfs does not maintain it, so an upper that
//! needs one is refused.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};

use crate::sys::object::At;
use crate::sys::{Errno, Result, directory};

/// The attribute in which overlayfs stores the number of names.
const LINK_COUNTS: [&[u8]; 2] = [b"trusted.overlay.nlink", b"user.overlay.nlink"];

/// Number of files of the index in work directory `base` with names that the upper does not have.
///
/// # Errors
/// The index cannot be read.
pub(super) fn unfinished(base: &OwnedFd) -> Result<usize> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let index = match rustix::fs::openat(base, c"index", flags, Mode::empty()) {
        Ok(index) => Arc::new(index),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(0),
        Err(errno) => return Err(errno),
    };
    let mut count = 0;
    for entry in directory::list(index.as_fd())? {
        let at = At::Name(Arc::clone(&index), &entry.name);
        if FileType::from_raw_mode(at.stat()?.st_mode) != FileType::RegularFile {
            continue;
        }
        for name in LINK_COUNTS {
            match at.xattr(name) {
                Ok(value) => count += usize::from(names_are_missing(&value)),
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(count)
}

/// True if names are missing by this count: `U+N` means that the overlay shows N names more than
/// the upper's file has, of which the index is one. `L+N`, an interrupted change, gives no
/// information here.
fn names_are_missing(value: &[u8]) -> bool {
    let difference = value
        .strip_prefix(b"U")
        .and_then(|rest| std::str::from_utf8(rest).ok()?.parse::<i64>().ok());
    difference.is_none_or(|difference| difference >= 0)
}

#[cfg(test)]
mod tests {
    use super::names_are_missing;

    #[test]
    fn counts_say_what_is_missing() {
        for (value, missing) in [
            (&b"U+0"[..], true),
            (b"U+2", true),
            (b"U-1", false),
            (b"L-1", true),
            (b"", true),
        ] {
            assert_eq!(
                names_are_missing(value),
                missing,
                "{}",
                value.escape_ascii()
            );
        }
    }
}
