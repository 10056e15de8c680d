//! The paths of an upper that a push sends.

use std::collections::BTreeSet;

use super::Excludes;

/// The selection by the user.
#[derive(Debug, Default)]
pub(crate) enum Selection {
    /// Every changed path.
    #[default]
    All,
    /// These paths and everything below them.
    Paths(BTreeSet<Vec<u8>>),
    /// Exactly these paths.
    Exactly(BTreeSet<Vec<u8>>),
    /// Paths that match these patterns, and everything below them.
    Fitting(Excludes),
}

impl Selection {
    /// True if a path is selected. Paths are relative and have no leading slash.
    #[must_use]
    pub(crate) fn takes(&self, path: &[u8], is_directory: bool) -> bool {
        match self {
            Self::All => true,
            Self::Paths(paths) => is_or_is_below(paths, path),
            Self::Exactly(paths) => paths.contains(path),
            Self::Fitting(patterns) => patterns.pattern_for(path, is_directory).is_some(),
        }
    }

    /// True if a path in this directory may be selected.
    #[must_use]
    pub(crate) fn reaches_into(&self, directory: &[u8]) -> bool {
        match self {
            Self::All | Self::Fitting(_) => true,
            Self::Paths(paths) => is_or_is_below(paths, directory) || has_below(paths, directory),
            Self::Exactly(paths) => has_below(paths, directory),
        }
    }

    /// True if the user named this path, or a path above or below it: default patterns do not
    /// exclude named paths.
    #[must_use]
    pub(crate) fn names(&self, path: &[u8], is_directory: bool) -> bool {
        match self {
            Self::Paths(paths) => {
                is_or_is_below(paths, path) || (is_directory && has_below(paths, path))
            }
            _ => false,
        }
    }
}

fn is_or_is_below(paths: &BTreeSet<Vec<u8>>, path: &[u8]) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let mut parents = slashes.filter_map(|(end, _)| path.get(..end));
    paths.contains(path) || paths.contains(&b""[..]) || parents.any(|parent| paths.contains(parent))
}

fn has_below(paths: &BTreeSet<Vec<u8>>, directory: &[u8]) -> bool {
    if directory.is_empty() {
        return !paths.is_empty();
    }
    let prefix = [directory, b"/"].concat();
    let next = paths.range(prefix.clone()..).next();
    next.is_some_and(|path| path.starts_with(&prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_with_what_is_below() {
        let paths = [&b"etc/ssh"[..], b"opt/x"].map(<[u8]>::to_vec);
        let named = Selection::Paths(paths.clone().into());
        for path in ["etc/ssh", "etc/ssh/sshd_config", "opt/x/y/z"] {
            assert!(named.takes(path.as_bytes(), false), "{path}");
        }
        for path in ["etc", "etc/ssh2", "opt", "etc/shadow"] {
            assert!(!named.takes(path.as_bytes(), true), "{path}");
        }
        for directory in ["", "etc", "etc/ssh", "etc/ssh/deep", "opt"] {
            assert!(named.reaches_into(directory.as_bytes()), "{directory}");
        }
        assert!(!named.reaches_into(b"op") && !named.reaches_into(b"etc/ssh2"));
        let exactly = Selection::Exactly(paths.into());
        assert!(exactly.takes(b"opt/x", true) && !exactly.takes(b"opt/x/y", false));
        assert!(exactly.reaches_into(b"opt") && !exactly.reaches_into(b"opt/x"));
        let all = Selection::Paths([Vec::new()].into());
        assert!(all.takes(b"etc/x", false) && all.reaches_into(b"etc"));
    }
}
