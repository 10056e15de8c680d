//! The path of an entry: clean components below the root.

use std::fmt;

use layerfmt::limits::DEPTH_MAX;
use layerfmt::name;

use super::limits::PATH_LEN_MAX;

/// A path below the root: valid names joined by `/`, none `.` or `..`; empty for the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryPath(Box<[u8]>);

/// The reason why bytes are not the path of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It starts at the root of the machine that packed it.
    #[error("the name is absolute; pack the tree from inside (tar -C ROOT -c .)")]
    Absolute,
    /// It contains `..`.
    #[error("the name holds \"..\" and could leave the tree")]
    Climbs,
    /// A component is not a valid name.
    #[error("{0}")]
    Name(name::NameError),
    /// It is longer than [`PATH_LEN_MAX`] or deeper than [`DEPTH_MAX`].
    #[error("the path is longer than {PATH_LEN_MAX} bytes or deeper than {DEPTH_MAX} directories")]
    TooLong,
}

impl EntryPath {
    /// Parses the path `raw`; `./`, doubled and trailing slashes are dropped.
    ///
    /// # Errors
    /// It is absolute, contains `..`, or an invalid name.
    pub fn parse(raw: &[u8]) -> Result<Self, PathError> {
        if raw.first() == Some(&b'/') {
            return Err(PathError::Absolute);
        }
        if raw.len() > PATH_LEN_MAX {
            return Err(PathError::TooLong);
        }
        let mut clean = Vec::with_capacity(raw.len());
        let mut depth = 0usize;
        for part in raw.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(PathError::Climbs),
                _ => name::check(part).map_err(PathError::Name)?,
            }
            depth += 1;
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(part);
        }
        if depth > DEPTH_MAX {
            return Err(PathError::TooLong);
        }
        Ok(EntryPath(clean.into()))
    }

    /// This path and one more component.
    ///
    /// # Errors
    /// `last` is not a valid name, or the path becomes too long.
    pub fn join(&self, last: &[u8]) -> Result<Self, PathError> {
        name::check(last).map_err(PathError::Name)?;
        let mut whole = Vec::with_capacity(self.0.len() + 1 + last.len());
        whole.extend_from_slice(&self.0);
        if !whole.is_empty() {
            whole.push(b'/');
        }
        whole.extend_from_slice(last);
        if whole.len() > PATH_LEN_MAX || self.components().count() >= DEPTH_MAX {
            return Err(PathError::TooLong);
        }
        Ok(EntryPath(whole.into()))
    }

    /// The bytes, components joined by `/`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
    }

    /// The directory it is in, and its last component; `None` for the root.
    #[must_use]
    pub fn split_last(&self) -> Option<(EntryPath, &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|&byte| byte == b'/') {
            None => Some((EntryPath::default(), &self.0)),
            Some(slash) => {
                let (parent, last) = self.0.split_at(slash);
                Some((EntryPath(parent.into()), last.get(1..).unwrap_or_default()))
            }
        }
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            _ if self.is_root() => f.write_str("/"),
            Ok(text) if !text.chars().any(char::is_control) => f.write_str(text),
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_paths() {
        let long = vec![b'n'; 256];
        let deep = b"d/".repeat(DEPTH_MAX + 1);
        let table: &[(&[u8], Result<&[u8], PathError>)] = &[
            (b"", Ok(b"")),
            (b".", Ok(b"")),
            (b"./", Ok(b"")),
            (b"./usr//bin/./x/", Ok(b"usr/bin/x")),
            (b"...", Ok(b"...")),
            (b"\xff\xfe", Ok(b"\xff\xfe")),
            (b"/etc/passwd", Err(PathError::Absolute)),
            (b"../x", Err(PathError::Climbs)),
            (b"a/../../x", Err(PathError::Climbs)),
            (
                b"a\0b",
                Err(PathError::Name(name::NameError::ForbiddenByte)),
            ),
            (&long, Err(PathError::Name(name::NameError::TooLong))),
            (&deep, Err(PathError::TooLong)),
        ];
        for (raw, expected) in table {
            let got = EntryPath::parse(raw);
            assert_eq!(
                got.as_ref().map(EntryPath::as_bytes),
                expected.as_ref().map(|bytes| *bytes),
                "{}",
                raw.escape_ascii()
            );
        }
    }

    #[test]
    fn splitting_and_joining_are_inverse() {
        let path = EntryPath::parse(b"a/b/c").unwrap();
        let (parent, last) = path.split_last().unwrap();
        assert_eq!((parent.as_bytes(), last), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(parent.join(last).unwrap(), path);
        assert!(EntryPath::default().split_last().is_none());
        assert_eq!(EntryPath::default().join(b"x").unwrap().as_bytes(), b"x");
    }
}
