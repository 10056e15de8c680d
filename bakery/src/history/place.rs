//! Paths inside revisions: `SYSTEM[/PROFILE][@REV]:/PATH`.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;

use layerfmt::layout::inode::S_IFLNK;
use layerfmt::{DirentTarget, Index, Ino, ROOT};
use wire::manifest::RevisionName;

use crate::limits::LINK_HOPS_MAX;

/// A path of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePlace {
    /// The revision; without a number the newest.
    pub revision: RevisionName,
    /// The path, any bytes but NUL; empty or `/` is the root.
    pub path: Vec<u8>,
}

/// The reason why a path has no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// A component does not exist. Holds the path up to and including it.
    #[error("there is no {0}")]
    Absent(String),
    /// A component in the middle is not a directory.
    #[error("{0} is not a directory")]
    NotADirectory(String),
    /// Symbolic links that lead to each other.
    #[error("more than {LINK_HOPS_MAX} symbolic links in the path")]
    Loop,
}

impl TreePlace {
    /// Parses `SYSTEM[/PROFILE][@REV]:/PATH`, or a revision alone, which stands for its root.
    ///
    /// # Errors
    /// The revision is invalid, or the path does not begin with a slash; the message gives the
    /// form.
    pub fn parse(text: &OsStr) -> Result<TreePlace, String> {
        let bytes = text.as_bytes();
        let at = bytes.iter().position(|byte| *byte == b':');
        let (name, path) = match at {
            Some(at) => (bytes.get(..at), bytes.get(at + 1..)),
            None => (Some(bytes), None),
        };
        let name = String::from_utf8_lossy(name.unwrap_or_default());
        let form = "write SYSTEM[/PROFILE][@REV]:/PATH";
        let revision = name.parse().map_err(|error| format!("{error}; {form}"))?;
        let path = path.unwrap_or(b"/");
        if !path.starts_with(b"/") {
            let path = path.escape_ascii();
            return Err(format!(
                "the path '{path}' does not begin with a slash; {form}"
            ));
        }
        Ok(TreePlace {
            revision,
            path: path.to_vec(),
        })
    }
}

impl fmt::Display for TreePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.revision, self.path.escape_ascii())
    }
}

/// The object at `path` of a merged tree. Symbolic links on the way are followed inside the tree, as the system itself
/// would see them; the last one only with `follow`.
///
/// # Errors
/// Nothing is there.
pub fn find(index: &Index, path: &[u8], follow: bool) -> Result<Ino, Lost> {
    let components = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|byte| *byte == b'/');
        let parts = parts.filter(|part| !part.is_empty() && *part != b".");
        parts.map(<[u8]>::to_vec).collect()
    };
    let mut left: VecDeque<Vec<u8>> = components(path).into();
    let (mut at, mut walked, mut links) = (vec![ROOT], Vec::<Vec<u8>>::new(), 0);
    while let Some(name) = left.pop_front() {
        if name == b".." {
            walked.pop();
            at.truncate(at.len().saturating_sub(1).max(1));
            continue;
        }
        let dir = at.last().copied().unwrap_or(ROOT);
        let shown = |last: &[u8]| {
            let parts = walked.iter().map(Vec::as_slice).chain([last]);
            parts.fold(String::new(), |text, part| {
                text + "/" + &part.escape_ascii().to_string()
            })
        };
        let child = match index.lookup(dir, &name).map(|entry| entry.child) {
            Some(DirentTarget::Inode(child)) => child,
            _ => return Err(Lost::Absent(shown(&name))),
        };
        let Some(inode) = index.inode(child) else {
            return Err(Lost::Absent(shown(&name)));
        };
        if inode.kind() == S_IFLNK && (follow || !left.is_empty()) {
            links += 1;
            if links > LINK_HOPS_MAX {
                return Err(Lost::Loop);
            }
            let target = index.symlink(child);
            if target.starts_with(b"/") {
                at.truncate(1);
                walked.clear();
            }
            for part in components(target).into_iter().rev() {
                left.push_front(part);
            }
            continue;
        }
        if !inode.is_dir() && !left.is_empty() {
            return Err(Lost::NotADirectory(shown(&name)));
        }
        at.push(child);
        walked.push(name);
    }
    Ok(at.last().copied().unwrap_or(ROOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_with_a_colon() {
        let parse = |text: &str| TreePlace::parse(OsStr::new(text));
        let place = parse("alt/lab@3:/etc/a:b").unwrap();
        assert_eq!(place.revision.to_string(), "alt/lab@3");
        assert_eq!(place.path, b"/etc/a:b");
        assert_eq!(parse("alt").unwrap().path, b"/");
        let relative = parse("alt:etc/motd").unwrap_err();
        assert!(
            relative.contains("does not begin with a slash"),
            "{relative}"
        );
        assert!(parse("Alt:/x").unwrap_err().contains("SYSTEM[/PROFILE]"));
    }
}
