//! Errors of starting a server.

use std::io;

use super::object::ObjectError;
use crate::jobs::JobError;
use crate::store::StoreError;

/// The reason why a server does not start, or a store cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// An option is invalid; the message gives the form.
    #[error("{0}")]
    Options(String),
    /// An address or the spool cannot be used.
    #[error("{doing}")]
    Io {
        /// The failed operation, and the remedy.
        doing: String,
        /// The underlying error.
        source: io::Error,
    },
    /// The affected spool.
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
    /// The conversion for `map_err`.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> ServeError {
        let doing = doing.into();
        move |source| ServeError::Io { doing, source }
    }
}
