//! The extended attributes of an object in the upper, and their meaning.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use wire::push::ChangeKind;

/// Longest list of names, and longest value, of extended attributes; the kernel's own bound.
const XATTR_LEN_MAX: usize = 64 << 10;

/// The kind of change of an entry, according to the marks in the upper: copied-up objects have an
/// origin.
pub(super) fn change_kind(
    file_type: FileType,
    stat: &Stat,
    xattrs: &[(Vec<u8>, Vec<u8>)],
) -> ChangeKind {
    let is_whiteout = file_type == FileType::CharacterDevice && stat.st_rdev == 0;
    if is_whiteout || has_mark(xattrs, b"overlay.whiteout") {
        return ChangeKind::Deleted;
    }
    if is_metacopy(xattrs) {
        return ChangeKind::Metadata;
    }
    let is_copy = has_mark(xattrs, b"overlay.origin") || has_mark(xattrs, b"layerfs.origin");
    match (is_copy, file_type) {
        (true, FileType::Directory) => ChangeKind::Metadata,
        (true, _) => ChangeKind::Changed,
        (false, _) => ChangeKind::Added,
    }
}

pub(super) fn is_metacopy(xattrs: &[(Vec<u8>, Vec<u8>)]) -> bool {
    has_mark(xattrs, b"overlay.metacopy")
}

fn has_mark(xattrs: &[(Vec<u8>, Vec<u8>)], mark: &[u8]) -> bool {
    xattrs.iter().any(|(name, _)| {
        let rest = name
            .strip_prefix(b"trusted.")
            .or_else(|| name.strip_prefix(b"user."));
        rest == Some(mark)
    })
}

/// The extended attributes of an entry, without following a link. There is no system call for that
/// relative to a directory, so the path starts at the directory's own descriptor.
pub(super) fn xattrs(directory: &OwnedFd, name: &CStr) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    let mut names = vec![0; XATTR_LEN_MAX];
    let len = match rustix::fs::llistxattr(path.as_slice(), &mut names) {
        Ok(len) => len,
        Err(Errno::NOENT | Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    names.truncate(len);
    let mut found = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; XATTR_LEN_MAX];
        match rustix::fs::lgetxattr(path.as_slice(), name, &mut value) {
            Ok(len) => {
                value.truncate(len);
                found.push((name.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::NOENT | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_unstable();
    Ok(found)
}
