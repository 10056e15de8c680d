//! The spellings of whiteouts and opaque directories.
//!
//! overlayfs marks with devices and extended attributes, AUFS and OCI layers with file names. All
//! are read everywhere; the results are plain objects, whiteouts and opaque directories.

use std::sync::Arc;

use layerfmt::tree::{Metadata, Time, Xattrs};

use super::EntryPath;
use super::override_stat::{self, Override};
use super::path::PathError;

/// The meaning of an entry's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spelling {
    /// An object like any other.
    Plain,
    /// The object at this path was removed (`.wh.NAME`).
    Whiteout(EntryPath),
    /// This directory hides everything below (`.wh..wh..opq`).
    Opaque(EntryPath),
    /// Bookkeeping of AUFS that is not part of the tree.
    Bookkeeping,
}

/// Parses an entry's name.
///
/// # Errors
/// A whiteout without a name.
pub fn spelling(path: &EntryPath) -> Result<Spelling, PathError> {
    let Some((parent, last)) = path.split_last() else {
        return Ok(Spelling::Plain);
    };
    if parent
        .components()
        .any(|part| part.starts_with(b".wh..wh."))
    {
        return Ok(Spelling::Bookkeeping);
    }
    match last.strip_prefix(b".wh.") {
        None => Ok(Spelling::Plain),
        Some(b".wh..opq") => Ok(Spelling::Opaque(parent)),
        // An older name for it in the predecessor of AUFS.
        Some(b"__dir_opaque") => Ok(Spelling::Opaque(parent)),
        Some(rest) if rest.starts_with(b".wh.") => Ok(Spelling::Bookkeeping),
        Some(rest) => parent.join(rest).map(Spelling::Whiteout),
    }
}

/// The marks of overlayfs on an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// This directory hides everything below.
    pub opaque: bool,
    /// This (empty, regular) file is a whiteout.
    pub whiteout: bool,
    /// The original location of this directory's contents: an absolute path, or a sibling name.
    pub redirect: Option<Box<[u8]>>,
    /// This file has metadata only; its bytes are those of the file below.
    pub metacopy: bool,
    /// This node represents a device of this number, which in an upper would be a whiteout.
    pub device: Option<(u32, u32)>,
    /// Owner, mode and kind that the writer could not set.
    pub overridden: Option<Override>,
    /// Number of names of the file, as stored by overlayfs with `index=on`.
    pub links: Option<Links>,
    /// overlayfs recorded the origin of the object.
    pub origin: bool,
}

/// Number of names of a hard-linked file in an overlay with an index: the link count of the upper's
/// file (which includes the index) or of the lower's, plus a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The form `U+N`.
    Upper(i64),
    /// The form `L+N`.
    Lower(i64),
}

impl Links {
    fn parse(value: &[u8]) -> Option<Self> {
        let (kind, difference) = value.split_first()?;
        let difference = std::str::from_utf8(difference).ok()?.parse().ok()?;
        match kind {
            b'U' => Some(Links::Upper(difference)),
            b'L' => Some(Links::Lower(difference)),
            _ => None,
        }
    }

    /// Number of names of the file outside the upper; `upper` and `lower` are the link counts
    /// there.
    #[must_use]
    pub fn elsewhere(self, upper: u32, lower: u32) -> i64 {
        match self {
            // The upper's count is that of its names and the index.
            Links::Upper(difference) => difference.saturating_add(1),
            Links::Lower(difference) => difference
                .saturating_add(lower.into())
                .saturating_sub(upper.into()),
        }
    }
}

const PREFIXES: [&[u8]; 3] = [
    b"trusted.overlay.",
    b"user.overlay.",
    b"user.fuseoverlayfs.",
];

const CAPABILITY: &[u8] = b"security.capability";

/// Prefixes of the mount's own attributes in its upper: `device`, `copying`, and others without
/// meaning elsewhere.
const OWN_PREFIXES: [&[u8]; 2] = [b"trusted.layerfs.", b"user.layerfs."];

/// Removes overlayfs' marks, and the mount's own, from an object's attributes. Attributes which
/// overlayfs escaped, because they belong to an overlay inside the overlay, get their own names
/// back.
///
/// # Errors
/// A mark has a value that no overlay writes.
pub fn take_marks(meta: &mut Metadata) -> Result<Marks, String> {
    let mut marks = Marks::default();
    let Some(xattrs) = &meta.xattrs else {
        return Ok(marks);
    };
    let prefixed = |name: &[u8]| {
        let mut prefixes = PREFIXES.iter().chain(&OWN_PREFIXES);
        prefixes.any(|prefix| name.starts_with(prefix)) || override_stat::rank(name).is_some()
    };
    if !xattrs.keys().any(|name| prefixed(name)) {
        return Ok(marks);
    }
    let mut kept = Xattrs::new();
    let mut ranked = None;
    for (name, value) in xattrs.iter() {
        if let Some(own) = OWN_PREFIXES.iter().find_map(|own| name.strip_prefix(*own)) {
            if own == b"device" {
                marks.device = device(value);
            } else if own == b"copying"
                && let Some((mtime, capability)) = copying(value)
            {
                meta.mtime = mtime;
                if let Some(value) = capability {
                    kept.insert(CAPABILITY.into(), value.into());
                }
            }
            continue;
        }
        if let Some(rank) = override_stat::rank(name) {
            if ranked.is_none_or(|other| rank < other) {
                ranked = Some(rank);
                marks.overridden =
                    Some(Override::parse(value).ok_or_else(|| unreadable(name, value))?);
            }
            continue;
        }
        let Some(prefix) = PREFIXES.iter().find(|prefix| name.starts_with(prefix)) else {
            kept.insert(name.clone(), value.clone());
            continue;
        };
        let mark = name.get(prefix.len()..).unwrap_or_default();
        if let Some(escaped) = mark.strip_prefix(b"overlay.") {
            kept.insert([*prefix, escaped].concat().into(), value.clone());
            continue;
        }
        match (mark, &**value) {
            (b"opaque", b"y") => marks.opaque = true,
            (b"whiteout", _) => marks.whiteout = true,
            (b"redirect", _) => marks.redirect = Some(value.clone()),
            (b"metacopy", _) => marks.metacopy = true,
            (b"origin", _) => marks.origin = true,
            (b"nlink", _) => {
                marks.links = Some(Links::parse(value).ok_or_else(|| unreadable(name, value))?);
            }
            // impure, uuid, upper, protattr: overlayfs' own notes. An opaque mark of "x" only
            // means that there are whiteouts in attribute form inside.
            _ => {}
        }
    }
    meta.xattrs = (!kept.is_empty()).then(|| Arc::new(kept));
    Ok(marks)
}

fn unreadable(name: &[u8], value: &[u8]) -> String {
    let (name, value) = (name.escape_ascii(), value.escape_ascii());
    format!("its attribute {name} has the value \"{value}\", which overlayfs never writes")
}

/// The time and the capabilities that a file had when copying its data was interrupted (SEMANTICS
/// S4.8).
fn copying(note: &[u8]) -> Option<(Time, Option<&[u8]>)> {
    let rest = note.strip_prefix(&[1])?;
    let (sec, rest) = rest.split_first_chunk::<8>()?;
    let (nsec, rest) = rest.split_first_chunk::<4>()?;
    let (&capable, capability) = rest.split_first()?;
    let mtime = Time {
        sec: i64::from_le_bytes(*sec),
        nsec: u32::from_le_bytes(*nsec),
    };
    (mtime.nsec < 1_000_000_000).then_some((mtime, (capable != 0).then_some(capability)))
}

/// Parses `MAJOR:MINOR`.
fn device(value: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_spelling() {
        let path = |text: &str| EntryPath::parse(text.as_bytes()).unwrap();
        let table = [
            ("a/b", Ok(Spelling::Plain)),
            ("", Ok(Spelling::Plain)),
            ("a/.wh.b", Ok(Spelling::Whiteout(path("a/b")))),
            (".wh.b", Ok(Spelling::Whiteout(path("b")))),
            ("a/.wh..wh..opq", Ok(Spelling::Opaque(path("a")))),
            (".wh..wh..opq", Ok(Spelling::Opaque(path("")))),
            ("a/.wh.__dir_opaque", Ok(Spelling::Opaque(path("a")))),
            (".wh..wh.aufs", Ok(Spelling::Bookkeeping)),
            (".wh..wh.plnk/123.456", Ok(Spelling::Bookkeeping)),
            (".wh..wh.orph", Ok(Spelling::Bookkeeping)),
        ];
        for (name, expected) in table {
            assert_eq!(spelling(&path(name)), expected, "{name}");
        }
        for bad in ["a/.wh.", "a/.wh..", "a/.wh..."] {
            assert!(spelling(&path(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn marks_are_taken_and_the_rest_stays() {
        let copying = b"\x01\x07\0\0\0\0\0\0\0\x09\0\0\0\x01CAP";
        let attributes: [(&[u8], &[u8]); 9] = [
            (b"trusted.layerfs.copying", copying),
            (b"trusted.layerfs.device", b"0:0"),
            (b"trusted.layerfs.origin", b"\x01\x02"),
            (b"trusted.overlay.opaque", b"y"),
            (b"trusted.overlay.origin", b"\0\xfb"),
            (b"trusted.overlay.overlay.opaque", b"y"),
            (b"user.overlay.redirect", b"/old"),
            (b"user.overlay.metacopy", b""),
            (b"user.mine", b"1"),
        ];
        let xattrs = attributes
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        let mut meta = Metadata {
            xattrs: Some(Arc::new(xattrs)),
            ..Metadata::default()
        };
        let marks = take_marks(&mut meta).unwrap();
        let redirect = Some(b"/old"[..].into());
        assert_eq!(
            marks,
            Marks {
                opaque: true,
                whiteout: false,
                redirect,
                metacopy: true,
                device: Some((0, 0)),
                origin: true,
                ..Marks::default()
            }
        );
        let kept: Vec<&[u8]> = meta.xattrs().map(|(name, _)| name).collect();
        let expected: [&[u8]; 3] = [CAPABILITY, b"trusted.overlay.opaque", b"user.mine"];
        assert_eq!(kept, expected);
        assert_eq!((meta.mtime.sec, meta.mtime.nsec), (7, 9));
        for bad in [&copying[..13], b"\x02", b"", &[1; 14]] {
            assert!(super::copying(bad).is_none_or(|(time, _)| time.nsec < 1_000_000_000));
        }
        assert_eq!(super::copying(&[255; 14]), None);
    }
}
