//! Errors of building an initramfs.

use std::io;

use crate::failed::Failed;

/// The reason why a tree cannot be read, or contains no initramfs, system or client.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// The tree or the request does not allow it; the message names the remedy.
    #[error("{0}")]
    Refused(String),
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] Failed<io::Error>),
    /// A part of the work failed.
    #[error(transparent)]
    Part(Box<Failed<InitrdError>>),
}

impl From<Failed<InitrdError>> for InitrdError {
    fn from(failed: Failed<InitrdError>) -> InitrdError {
        InitrdError::Part(Box::new(failed))
    }
}

/// A result of reading a tree.
pub(crate) type Result<T, E = InitrdError> = std::result::Result<T, E>;

/// Returns an [`InitrdError::Refused`] with a formatted message.
macro_rules! refuse {
    ($($message:tt)*) => {
        return Err($crate::initrd::error::InitrdError::Refused(format!($($message)*)))
    };
}
pub(crate) use refuse;
