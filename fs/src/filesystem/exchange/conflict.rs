//! Paths that both the upper and the other revision change.

/// A path that both the upper and the other revision change. The upper wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The path in the mount, without the first slash.
    pub path: Vec<u8>,
    /// The change in the upper.
    pub ours: Ours,
    /// The change of the revision.
    pub theirs: Theirs,
    /// True if such a switch is refused: the object would lose its data, or a lower directory would
    /// be shown twice.
    pub forbids: bool,
}

/// The change in the upper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ours {
    /// Removed, or moved away.
    Removed,
    /// Created, replaced or written.
    Written,
    /// Owner, permissions, times, attributes or the name.
    Attributes,
    /// A directory of its own.
    Directory,
    /// A directory that was moved here.
    Moved,
}

/// The change of the revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theirs {
    /// New.
    Added,
    /// Other content or attributes.
    Changed,
    /// Not there any more.
    Removed,
    /// Changes below this directory.
    Below,
    /// Has it at its old place, where the upper shows it too.
    Beside,
}

impl std::fmt::Display for Ours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Ours::Removed => "removed or moved",
            Ours::Written => "written",
            Ours::Attributes => "attributes or name changed",
            Ours::Directory => "replaced by a directory",
            Ours::Moved => "moved here",
        })
    }
}

impl std::fmt::Display for Theirs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Theirs::Added => "adds it",
            Theirs::Changed => "changes it",
            Theirs::Removed => "removes it",
            Theirs::Below => "changes files below it",
            Theirs::Beside => "has it at its old place too",
        })
    }
}
