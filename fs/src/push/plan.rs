//! The selection of an upper's entries for a push.

use wire::push::ChangeKind;

use super::{Excludes, Selection};

/// The entries to send, and their treatment.
#[derive(Debug)]
pub(crate) struct PushPlan {
    /// The patterns to exclude.
    pub excludes: Excludes,
    /// Patterns that exclude even paths that the user named.
    pub own_excludes: Excludes,
    /// The selection by the user.
    pub selection: Selection,
    /// Send a listing: each file's length and content digest instead of its bytes.
    pub is_listing: bool,
}

#[cfg(test)]
impl PushPlan {
    /// Everything except paths that match `excludes`.
    #[must_use]
    pub(crate) fn all_but(excludes: Excludes) -> Self {
        Self {
            excludes,
            own_excludes: Excludes::default(),
            selection: Selection::All,
            is_listing: false,
        }
    }
}

/// One entry, for a progress display.
#[derive(Debug, Clone)]
pub(crate) struct Found<'f> {
    /// Its path in the upper.
    pub path: &'f [u8],
    /// The kind of change, according to the marks in the upper.
    pub kind: ChangeKind,
    /// Bytes of data it brings.
    pub len: u64,
    /// The reason why it is not sent, if any.
    pub left_out: Option<&'f str>,
    /// The reason why it may be a secret.
    pub suspicion: Option<String>,
}

impl<'f> Found<'f> {
    pub(super) fn left_out(path: &'f [u8], why: &'f str) -> Self {
        Self {
            path,
            kind: ChangeKind::Changed,
            len: 0,
            left_out: Some(why),
            suspicion: None,
        }
    }
}

/// Counters of the entries of an upper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Number of entries sent.
    pub entries: u64,
    /// Whiteouts among them.
    pub whiteouts: u64,
    /// Bytes of file data, without holes.
    pub data_len: u64,
    /// Number of entries excluded by a pattern.
    pub excluded: u64,
    /// Number of entries that disappeared or cannot be sent (sockets, other file systems).
    pub skipped: u64,
    /// Files that changed their length while they were read.
    pub changed: u64,
}
