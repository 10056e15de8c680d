//! The extended attributes that make a directory tree an overlayfs upper, and those of our own.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::XattrFlags;

use super::origins::Origins;
use crate::sys::object::At;
use crate::sys::{Errno, Result};

/// Bytes of the stack's digest stored in an origin.
const ORIGIN_DIGEST_LEN: usize = 16;
/// Version of the origin's form.
const ORIGIN_VERSION: u8 = 1;

/// The attribute names in use: `trusted.` if the kernel allows it, else `user.` (overlayfs then
/// needs `-o userxattr`).
#[derive(Debug, Clone)]
pub struct Marks {
    /// A directory hides all lower names: `y`.
    pub opaque: Vec<u8>,
    /// The lower object with this object's names (directory) or data (metacopy).
    pub redirect: Vec<u8>,
    /// The data is still in the lower.
    pub metacopy: Vec<u8>,
    /// The chattr flags of the object, as letters.
    pub protection: Vec<u8>,
    /// Ours: the lower row this object was copied up from, and of which stack.
    pub origin: Vec<u8>,
    /// Ours: the device number of a node 0:0 of a user, which would otherwise be taken for a
    /// whiteout.
    pub device: Vec<u8>,
    /// Ours: attributes to restore, during a copy of the data.
    pub copying: Vec<u8>,
    /// Ours: the change time to show instead of the upper's.
    pub change_time: Vec<u8>,
    overlay: Vec<u8>,
    own: Vec<u8>,
}

/// The attributes of one object of the upper.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Marked {
    /// See [`Marks::opaque`].
    pub opaque: bool,
    /// See [`Marks::redirect`].
    pub redirect: Option<Vec<u8>>,
    /// See [`Marks::metacopy`].
    pub metacopy: bool,
    /// See [`Marks::protection`].
    pub protection: Option<Vec<u8>>,
    /// See [`Marks::origin`]; only if of this stack.
    pub origin: Option<u32>,
    /// True if it has an origin in another stack.
    pub foreign_origin: bool,
    /// See [`Marks::device`].
    pub device: Option<(u32, u32)>,
    /// The raw value of [`Marks::copying`].
    pub copying: Option<Vec<u8>>,
    /// The raw value of [`Marks::change_time`].
    pub change_time: Option<Vec<u8>>,
}

impl Marks {
    fn new(namespace: &str) -> Marks {
        let name = |rest: &str| format!("{namespace}.{rest}").into_bytes();
        Marks {
            opaque: name("overlay.opaque"),
            redirect: name("overlay.redirect"),
            metacopy: name("overlay.metacopy"),
            protection: name("overlay.protattr"),
            origin: name("layerfs.origin"),
            device: name("layerfs.device"),
            copying: name("layerfs.copying"),
            change_time: name("layerfs.ctime"),
            overlay: name("overlay."),
            own: name("layerfs."),
        }
    }

    /// Determines the attributes that the file system of `directory` can store.
    ///
    /// # Errors
    /// The missing feature and the error.
    pub fn probe(directory: &OwnedFd) -> std::result::Result<Marks, (&'static str, Errno)> {
        let directory = match directory.try_clone() {
            Ok(fd) => At::Open(Arc::new(fd)),
            Err(_) => return Err(("no descriptor is left", Errno::MFILE)),
        };
        let mut last = Errno::OPNOTSUPP;
        for namespace in ["trusted", "user"] {
            let marks = Marks::new(namespace);
            let mut probe = marks.own.clone();
            probe.extend_from_slice(b"probe");
            match directory.set_xattr(&probe, b"1", XattrFlags::empty()) {
                Ok(()) => {
                    let _ = directory.remove_xattr(&probe);
                    return Ok(marks);
                }
                Err(errno) => last = errno,
            }
        }
        Err(("it does not store extended attributes", last))
    }

    /// True if the marks are stored as `user.` attributes.
    pub(crate) fn in_user_namespace(&self) -> bool {
        self.overlay.starts_with(b"user.")
    }

    /// Reads the marks of an object.
    ///
    /// # Errors
    /// An error of the file system other than "no such attribute".
    pub fn read(&self, at: &At<'_>, stack: &Origins) -> Result<Marked> {
        let mut marked = Marked::default();
        let names = match at.xattr_names() {
            Ok(names) => names,
            Err(Errno::OPNOTSUPP) => return Ok(marked),
            Err(errno) => return Err(errno),
        };
        for name in names {
            if name == self.opaque {
                marked.opaque = at.xattr(&name)?.first() == Some(&b'y');
            } else if name == self.redirect {
                marked.redirect = Some(at.xattr(&name)?);
            } else if name == self.metacopy {
                marked.metacopy = true;
            } else if name == self.protection {
                marked.protection = Some(at.xattr(&name)?);
            } else if name == self.origin {
                marked.origin = stack.row(&at.xattr(&name)?);
                marked.foreign_origin = marked.origin.is_none();
            } else if name == self.device {
                marked.device = decode_device(&at.xattr(&name)?);
            } else if name == self.copying {
                marked.copying = Some(at.xattr(&name)?);
            } else if name == self.change_time {
                marked.change_time = Some(at.xattr(&name)?);
            }
        }
        Ok(marked)
    }

    /// The name under which an attribute the user calls `name` is stored; `None` if it is ours
    /// and not for users.
    pub(crate) fn stored_name(&self, name: &[u8]) -> Option<Vec<u8>> {
        if name.starts_with(&self.own) {
            return None;
        }
        let Some(rest) = name.strip_prefix(&self.overlay[..]) else {
            return Some(name.to_vec());
        };
        let mut stored = self.overlay.clone();
        stored.extend_from_slice(b"overlay.");
        stored.extend_from_slice(rest);
        Some(stored)
    }

    /// The name a user sees for a stored attribute; `None` if it is hidden.
    pub(crate) fn shown_name(&self, stored: &[u8]) -> Option<Vec<u8>> {
        if stored.starts_with(&self.own) {
            return None;
        }
        let Some(rest) = stored.strip_prefix(&self.overlay[..]) else {
            return Some(stored.to_vec());
        };
        let escaped = rest.strip_prefix(b"overlay.")?;
        let mut shown = self.overlay.clone();
        shown.extend_from_slice(escaped);
        Some(shown)
    }
}

/// The value of [`Marks::device`].
pub(crate) fn encode_device(major: u32, minor: u32) -> Vec<u8> {
    format!("{major}:{minor}").into_bytes()
}

fn decode_device(value: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Names the stack whose rows an origin counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackDigest(pub [u8; ORIGIN_DIGEST_LEN]);

impl StackDigest {
    /// From the digest of the flattened index.
    pub fn new(digest: &[u8; 32]) -> StackDigest {
        let mut short = [0; ORIGIN_DIGEST_LEN];
        for (to, from) in short.iter_mut().zip(digest) {
            *to = *from;
        }
        StackDigest(short)
    }

    /// The generation of this stack's rows: with other layers a number names another object.
    pub(crate) fn generation(&self) -> u32 {
        self.0.first_chunk().copied().map_or(0, u32::from_le_bytes)
    }

    /// The value of [`Marks::origin`] for `row`.
    pub fn origin(&self, row: u32) -> Vec<u8> {
        let mut value = Vec::with_capacity(1 + 4 + ORIGIN_DIGEST_LEN);
        value.push(ORIGIN_VERSION);
        value.extend_from_slice(&row.to_le_bytes());
        value.extend_from_slice(&self.0);
        value
    }

    /// The row an origin names, if it is of this stack.
    pub(crate) fn origin_row(&self, value: &[u8]) -> Option<u32> {
        let (version, rest) = value.split_first()?;
        let (row, digest) = rest.split_first_chunk::<4>()?;
        (*version == ORIGIN_VERSION && digest == self.0).then(|| u32::from_le_bytes(*row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_cannot_reach_our_marks_but_may_nest_overlayfs() {
        let marks = Marks::new("trusted");
        assert_eq!(marks.stored_name(b"trusted.layerfs.origin"), None);
        assert_eq!(
            marks.stored_name(b"trusted.overlay.opaque").as_deref(),
            Some(&b"trusted.overlay.overlay.opaque"[..])
        );
        assert_eq!(
            marks.stored_name(b"user.x").as_deref(),
            Some(&b"user.x"[..])
        );
        assert_eq!(marks.shown_name(b"trusted.overlay.opaque"), None);
        assert_eq!(marks.shown_name(b"trusted.layerfs.origin"), None);
        assert_eq!(
            marks
                .shown_name(b"trusted.overlay.overlay.opaque")
                .as_deref(),
            Some(&b"trusted.overlay.opaque"[..])
        );
    }

    #[test]
    fn an_origin_of_another_stack_is_no_origin() {
        let (one, two) = (StackDigest::new(&[1; 32]), StackDigest::new(&[2; 32]));
        assert_eq!(one.origin_row(&one.origin(77)), Some(77));
        assert_eq!(two.origin_row(&one.origin(77)), None);
        assert_eq!(one.origin_row(b""), None);
        assert_eq!(one.origin_row(&[9; 21]), None);
    }

    #[test]
    fn device_marks_round_trip() {
        assert_eq!(decode_device(&encode_device(0, 0)), Some((0, 0)));
        assert_eq!(decode_device(b"1"), None);
    }
}
