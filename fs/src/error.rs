//! Errors of operations: an errno for the caller, and the cause for the log.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::Errno;

/// `Result` with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The failure of an operation.
///
/// A plain errno (ENOENT, EEXIST) costs no allocation. A fault has a cause too: a message and the
/// error beneath it. The edge of the file system logs it ([`LayerFs::refuse`]); nothing below does.
///
/// [`LayerFs::refuse`]: crate::filesystem::LayerFs::refuse
#[derive(Debug, Clone)]
pub struct Error {
    errno: Errno,
    cause: Option<Arc<Cause>>,
}

/// The cause of a fault, shared by all requests that it fails.
struct Cause {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    logged: AtomicBool,
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cause")
            .field("message", &self.message)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Error {
    /// A fault: `message` says what is wrong and where.
    #[cold]
    pub(crate) fn fault(errno: Errno, message: impl Into<String>) -> Error {
        Error::with_cause(errno, message.into(), None)
    }

    /// A fault that another error caused.
    #[cold]
    pub(crate) fn caused_by(
        errno: Errno,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::with_cause(errno, message.into(), Some(source.into()))
    }

    fn with_cause(
        errno: Errno,
        message: String,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        let cause = Cause {
            message,
            source,
            logged: AtomicBool::new(false),
        };
        Error {
            errno,
            cause: Some(Arc::new(cause)),
        }
    }

    /// The errno of the answer.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// True if the log must name it: it has a cause, or it is an errno of broken storage or of
    /// exhausted resources, which callers do not expect.
    pub(crate) fn is_fault(&self) -> bool {
        self.cause.is_some()
            || matches!(
                self.errno,
                Errno::IO
                    | Errno::UCLEAN
                    | Errno::BADMSG
                    | Errno::NODEV
                    | Errno::NOMEM
                    | Errno::MFILE
                    | Errno::NFILE
            )
    }

    /// True for the first call only: requests that fail for one cause give one log line.
    pub(crate) fn is_news(&self) -> bool {
        self.cause
            .as_ref()
            .is_none_or(|cause| !cause.logged.swap(true, Ordering::Relaxed))
    }
}

impl From<Errno> for Error {
    #[inline]
    fn from(errno: Errno) -> Error {
        Error { errno, cause: None }
    }
}

impl From<Error> for Errno {
    fn from(error: Error) -> Errno {
        error.errno
    }
}

impl PartialEq<Errno> for Error {
    fn eq(&self, errno: &Errno) -> bool {
        self.errno == *errno
    }
}

/// Message and cause in one line, without the errno if a message explains it.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(cause) = &self.cause else {
            return self.errno.fmt(f);
        };
        f.write_str(&cause.message)?;
        match &cause.source {
            // Errors of this program name their own causes.
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().and_then(|cause| cause.source())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_errno_is_no_fault_and_a_fault_is_news_once() {
        let missing = Error::from(Errno::NOENT);
        assert!(!missing.is_fault());
        assert_eq!(missing.to_string(), Errno::NOENT.to_string());
        assert!(Error::from(Errno::IO).is_fault());

        let lost = Error::caused_by(Errno::IO, "chunk 3 of layer 7", "its digest differs");
        let shared = lost.clone();
        assert_eq!(lost, Errno::IO);
        assert_eq!(lost.to_string(), "chunk 3 of layer 7: its digest differs");
        assert!(lost.is_fault() && lost.is_news());
        assert!(!shared.is_news());
    }
}
