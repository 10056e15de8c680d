//! Errors of reading or continuing a history.

use layerfmt::FormatError;
use layerfmt::tree::TreeError;
use wire::manifest::{RecordError, RevisionName};
use wire::trust::TrustError;

use super::Conflict;
use crate::keys::KeyError;
use crate::store::{Key, StoreError};

/// The reason why a history could not be read or continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// No revision was ever published under this name.
    #[error("there is no {name}; {there}")]
    NoHistory {
        /// The requested name.
        name: String,
        /// The existing names, or the command that makes the first.
        there: String,
    },
    /// The history is shorter.
    #[error("there is no {wanted}; the newest revision is {newest}")]
    NoRevision {
        /// The requested revision.
        wanted: String,
        /// The newest revision.
        newest: u64,
    },
    /// Parts of the revision were deleted on purpose.
    #[error(
        "{name} was swept by `bakery gc`: {key} was deleted; `bakery log` marks swept revisions, `bakery tag` protects a revision"
    )]
    Swept {
        /// Name of the revision.
        name: String,
        /// The first missing object.
        key: Key,
    },
    /// The history is closed.
    #[error("{0} was removed; choose another name, or restore it with `bakery profile add`")]
    Removed(String),
    /// The request is meaningless or has no effect.
    #[error("{0}")]
    Refused(String),
    /// Both sides changed the same paths. Nothing was published.
    #[error("{} path(s) changed on both sides; nothing was published", .0.len())]
    Conflicts(Vec<Conflict>),
    /// Other processes published first, several times in a row.
    #[error("other processes published {0} first, {1} times in a row; try again")]
    Busy(String, u32),
    /// A record is not valid.
    #[error("{name}: {source}")]
    Untrusted {
        /// Name of the revision.
        name: String,
        /// The failed check.
        source: TrustError,
    },
    /// The bakery's own key may not publish this.
    #[error(
        "not published, because clients would reject it: {name}: {source}. This bakery's key must \
         be authorized for {name} (`bakery key list`); `bakery key rotate` makes a new one"
    )]
    Signer {
        /// Name of the history.
        name: String,
        /// The failed check.
        source: TrustError,
    },
    /// The keysets are not valid.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The bakery's own keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Readers would refuse a record that this bakery made.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer is damaged or too large.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A tree too large for an index.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A local file cannot be read or written.
    #[error("{0}")]
    File(String, #[source] std::io::Error),
}

impl HistoryError {
    pub(crate) fn of(name: &RevisionName, source: TrustError) -> HistoryError {
        HistoryError::Untrusted {
            name: name.to_string(),
            source,
        }
    }
}
