//! An error for a person: an HTTP status and a text.

use bakery::history::HistoryError;
use bakery::human;

/// The reason why a request has no better answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The text, with its causes.
    pub(crate) text: String,
}

/// `Result` with a [`Problem`].
pub(crate) type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    /// The request is malformed.
    pub(crate) fn bad(text: impl Into<String>) -> Problem {
        Problem::of(400, text)
    }

    /// The account may not do this, or the request was forged.
    pub(crate) fn forbidden(text: impl Into<String>) -> Problem {
        Problem::of(403, text)
    }

    /// The requested object does not exist.
    pub(crate) fn absent(text: impl Into<String>) -> Problem {
        Problem::of(404, text)
    }

    /// The action is refused in the present state.
    pub(crate) fn refused(text: impl Into<String>) -> Problem {
        Problem::of(409, text)
    }

    /// The console failed.
    pub(crate) fn failed(text: impl Into<String>) -> Problem {
        Problem::of(500, text)
    }

    /// A status and a text.
    pub(crate) fn of(status: u16, text: impl Into<String>) -> Problem {
        Problem {
            status,
            text: text.into(),
        }
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Problem {
        let status = match &error {
            HistoryError::NoHistory { .. } | HistoryError::NoRevision { .. } => 404,
            HistoryError::Refused(_)
            | HistoryError::Swept { .. }
            | HistoryError::Removed(_)
            | HistoryError::Busy(..) => 409,
            HistoryError::Conflicts(conflicts) => {
                let lines: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
                return Problem::refused(lines.join("\n"));
            }
            _ => 500,
        };
        Problem::of(status, human::causes(&error))
    }
}

impl From<fleet::store::StoreError> for Problem {
    fn from(error: fleet::store::StoreError) -> Problem {
        Problem::refused(human::causes(&error))
    }
}

impl From<bakery::publish::ValuesError> for Problem {
    fn from(error: bakery::publish::ValuesError) -> Problem {
        use bakery::publish::ValuesError;
        match error {
            ValuesError::Fleet(error) => error.into(),
            ValuesError::History(error) => error.into(),
        }
    }
}

impl From<bakery::jobs::JobError> for Problem {
    fn from(error: bakery::jobs::JobError) -> Problem {
        Problem::refused(human::causes(&error))
    }
}

impl From<crate::accounts::AccountError> for Problem {
    fn from(error: crate::accounts::AccountError) -> Problem {
        match error {
            crate::accounts::AccountError::Refused(text) => Problem::refused(text),
            error => Problem::failed(error.to_string()),
        }
    }
}

impl From<crate::uploads::UploadError> for Problem {
    fn from(error: crate::uploads::UploadError) -> Problem {
        use crate::uploads::UploadError;
        let status = match &error {
            UploadError::Name(_) => 400,
            UploadError::Offset(_) | UploadError::Exists => 409,
            UploadError::TooLong(_) => 413,
            UploadError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => 404,
            UploadError::Io(_) => 500,
        };
        Problem::of(status, error.to_string())
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Problem {
        Problem::failed(error.to_string())
    }
}
