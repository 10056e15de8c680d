//! Errors between a request to a server and its bytes.

use std::time::Duration;

/// A failed exchange with one server.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server's name has no address (yet).
    #[error("cannot look its name up: {0}")]
    LookUp(#[source] std::io::Error),
    /// The connection failed.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// The connection broke, or the answer was not HTTP.
    #[error("the connection broke: {0}")]
    Broken(#[source] hyper::Error),
    /// No data for too long.
    #[error("no answer within {:.1} s ({what})", waited.as_secs_f32())]
    Timeout {
        /// The awaited part.
        what: &'static str,
        /// The duration.
        waited: Duration,
    },
    /// Too few bytes arrived.
    #[error("the answer came at less than {floor} bytes/s")]
    TooSlow {
        /// The least accepted rate.
        floor: u64,
    },
    /// The server answered with an error status.
    #[error("the server answered {status}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The time from `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The server redirects to another server.
    #[error(
        "it redirects to {to:?}: followed only within one server, {max} times; name that server itself"
    )]
    Redirect {
        /// The target of the redirect.
        to: String,
        /// Most redirects of one request.
        max: usize,
    },
    /// The answer does not match the request.
    #[error("a wrong answer: {0}")]
    Wrong(&'static str),
    /// The bytes do not have the digest they must have.
    #[error("the content does not have its digest")]
    Corrupt,
    /// The answer is longer than allowed.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The time given by `--timeout` is over.
    #[error("no server gave it within {:.0} s", .0.as_secs_f32())]
    GaveUp(Duration),
    /// The mount is ending.
    #[error("the mount is ending")]
    Closed,
}

/// The party that caused a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The server or the path to it: other requests would fail there as well.
    Server,
    /// This object on that server: others may be fine.
    Object,
    /// None: the mount itself stops.
    Nobody,
}

impl FetchError {
    pub(crate) fn blame(&self) -> Blame {
        match self {
            FetchError::LookUp(_)
            | FetchError::Connect(_)
            | FetchError::Broken(_)
            | FetchError::Timeout { .. }
            | FetchError::TooSlow { .. } => Blame::Server,
            FetchError::Status { status, .. } if *status == 429 || *status >= 500 => Blame::Server,
            FetchError::Status { .. }
            | FetchError::Redirect { .. }
            | FetchError::Wrong(_)
            | FetchError::Corrupt
            | FetchError::TooLong(_) => Blame::Object,
            FetchError::GaveUp(_) | FetchError::Closed => Blame::Nobody,
        }
    }

    /// True if the server reports that it does not have the object.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(
            self,
            FetchError::Status {
                status: 404 | 410 | 403,
                ..
            }
        )
    }
}
