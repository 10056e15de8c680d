//! Reasons why a server does not start.

use std::io;

use super::object::ObjectError;
use crate::jobs::JobError;
use crate::store::StoreError;

/// Why a server does not start, or a store cannot be looked through.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An option makes no sense; the message says what to write.
    #[error("{0}")]
    Options(String),
    /// An address or the spool cannot be used.
    #[error("{doing}")]
    Io {
        /// The operation that failed, and what to do.
        doing: String,
        /// The reason.
        source: io::Error,
    },
    /// The spool.
    #[error(transparent)]
    Spool(#[from] JobError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object of the store cannot be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl ServeError {
    /// For `map_err`.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> ServeError {
        let doing = doing.into();
        move |source| ServeError::Io { doing, source }
    }
}
