//! A path that both sides of a merge changed.

use std::fmt;

use serde::Serialize;

/// A path that both sides changed, and the change of each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Conflict {
    /// The path, without a leading slash. Bytes that are not UTF-8 are replaced.
    pub path: String,
    /// The change of the target.
    pub ours: String,
    /// The change of the layer.
    pub theirs: String,
    /// True for kernel, initramfs or parameters instead of a path.
    #[serde(skip)]
    pub of_boot: bool,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.of_boot { "" } else { "/" };
        write!(
            f,
            "{slash}{}: ours {}, theirs {}",
            self.path, self.ours, self.theirs
        )
    }
}

impl Conflict {
    pub(crate) fn new(path: &[u8], ours: impl Into<String>, theirs: impl Into<String>) -> Self {
        let path = String::from_utf8_lossy(path).into_owned();
        Conflict {
            path,
            ours: ours.into(),
            theirs: theirs.into(),
            of_boot: false,
        }
    }

    /// Both sides changed kernel, initramfs or parameters.
    pub(crate) fn of_boot(what: &str) -> Self {
        Conflict {
            path: what.into(),
            ours: "changed since".into(),
            theirs: "goes back".into(),
            of_boot: true,
        }
    }
}
