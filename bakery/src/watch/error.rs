//! Errors of a watcher.

use std::io;

use crate::failed::Failed;
use crate::jobs::JobError;
use crate::keys::KeyError;
use crate::serve::ServeError;

/// The reason why a watcher does not start or stops.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// Another watcher has the spool.
    #[error("another `bakery watch` is running on {0}: one is enough")]
    Locked(String),
    /// A file cannot be read, or a program cannot be started.
    #[error(transparent)]
    Io(#[from] Failed<io::Error>),
    /// The spool cannot be read or written.
    #[error("cannot use the spool")]
    Spool(#[from] io::Error),
    /// A job cannot be read.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The keys cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store cannot be looked through.
    #[error(transparent)]
    Store(#[from] ServeError),
    /// No sender of events is left.
    #[error("the watcher's events ended")]
    Events,
}
