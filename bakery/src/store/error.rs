//! Errors of a store.

use super::Key;

/// Errors of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The name of the store cannot be used.
    #[error("{0}")]
    Location(String),
    /// The place exists, but is not a store.
    #[error("{0} is not a store; make one with `bakery --store {0} init`")]
    NotAStore(String),
    /// An object that must be there is not.
    #[error("the store has no {0}; `bakery verify --all` lists what is missing")]
    Missing(Key),
    /// Longer than such an object may be.
    #[error("{key} is {len} bytes long, more than the allowed {len_max}")]
    TooLong {
        /// Key of the object.
        key: Key,
        /// Length of the object.
        len: u64,
        /// The maximum length.
        len_max: u64,
    },
    /// The bytes are not the ones the name promises.
    #[error("{key} is damaged: {what}; restore it from a backup or a mirror")]
    Damaged {
        /// Key of the object.
        key: Key,
        /// The fault of the object.
        what: String,
    },
    /// The operating system, or the network, refused.
    #[error("{doing} {key}")]
    Failed {
        /// The failed operation.
        doing: &'static str,
        /// The object or directory.
        key: String,
        /// The error of the library.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// `Result` with a [`StoreError`].
pub type Result<T> = std::result::Result<T, StoreError>;
