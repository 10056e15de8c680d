//! Errors of assembling entries to a tree.

use std::io;

use layerfmt::FormatError;
use layerfmt::tree::TreeError;

use source::{PathError, SourceError};

/// The reason why the entries of a source do not form a tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// The source cannot be read exactly, or contradicts itself.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The content of a file cannot be stored.
    #[error("{doing}")]
    Content {
        /// The operation that failed.
        doing: String,
        /// The underlying error.
        source: FormatError,
    },
    /// A file cannot be read.
    #[error("{doing}")]
    Io {
        /// The operation that failed.
        doing: String,
        /// The underlying error.
        source: io::Error,
    },
    /// A listing has a line that cannot be read.
    #[error("{0}")]
    Listing(String),
    /// A path that cannot be in a tree.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The tree is too large, or a name is not one.
    #[error(transparent)]
    Tree(#[from] TreeError),
}
