//! Errors of building an initramfs.

use std::io;

/// The reason why a tree cannot be read, or contains no initramfs, system or client.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// The tree or the request does not allow it; the message names the remedy.
    #[error("{0}")]
    Refused(String),
    /// A file cannot be read or written.
    #[error("{doing}")]
    Io {
        /// The operation that failed.
        doing: String,
        /// The underlying error.
        source: io::Error,
    },
    /// A part of the work failed.
    #[error("{doing}")]
    Part {
        /// The affected part.
        doing: String,
        /// The underlying error.
        source: Box<InitrdError>,
    },
}

/// A result of reading a tree.
pub(crate) type Result<T, E = InitrdError> = std::result::Result<T, E>;

/// Names the operation that failed.
pub(crate) trait InitrdContext<T> {
    /// Converts to an [`InitrdError`] that names the failed operation.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> InitrdContext<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| InitrdError::Io {
            doing: what(),
            source,
        })
    }
}

impl<T> InitrdContext<T> for Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| InitrdError::Part {
            doing: what(),
            source: Box::new(source),
        })
    }
}

/// Returns an [`InitrdError::Refused`] with a formatted message.
macro_rules! refuse {
    ($($message:tt)*) => {
        return Err($crate::initrd::error::InitrdError::Refused(format!($($message)*)))
    };
}
pub(crate) use refuse;
