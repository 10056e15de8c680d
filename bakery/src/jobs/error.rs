//! Errors of a job.

use std::io;

use wire::exclude::PatternError;
use wire::manifest::RecordError;

use crate::bake::BakeError;
use crate::failed::Failed;
use crate::history::HistoryError;
use crate::store::StoreError;
use source::SourceError;

/// The reason why a job cannot be worked on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// A file of the spool cannot be read or written.
    #[error(transparent)]
    Io(#[from] Failed<io::Error>),
    /// The spool cannot be read or written.
    #[error("cannot use the spool")]
    Spool(#[from] io::Error),
    /// The upload cannot be baked.
    #[error(transparent)]
    Bake(#[from] BakeError),
    /// The upload cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The history cannot be read or continued.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An exclude list of the spool is damaged.
    #[error(transparent)]
    Excludes(#[from] PatternError),
    /// The target is not a name.
    #[error(transparent)]
    Target(#[from] RecordError),
    /// Only a job in the queue can be approved or rejected.
    #[error("job {id} is {state}: only a queued job can be approved or rejected")]
    NotQueued {
        /// Number of the job.
        id: String,
        /// Its state.
        state: &'static str,
    },
    /// The report cannot be written down.
    #[error("cannot write the report of the job")]
    Report(#[from] serde_json::Error),
}

impl JobError {
    /// True if another attempt may succeed: the upload itself is not at fault.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            JobError::Store(_)
            | JobError::History(
                HistoryError::Store(_)
                | HistoryError::Busy(..)
                | HistoryError::Key(_)
                | HistoryError::File(..),
            ) => true,
            error => is_full(error),
        }
    }
}

/// True if a full disk is among the causes.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(
            kind,
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        ) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::AssembleError;
    use layerfmt::FormatError;

    #[test]
    fn a_full_disk_is_temporary_wherever_it_is_met() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let doing = String::new;
        let baked: [BakeError; 3] = [
            BakeError::Io(Failed {
                doing: doing(),
                source: full(),
            }),
            BakeError::Layer(Failed {
                doing: doing(),
                source: FormatError::io("data", 0, "", full()),
            }),
            AssembleError::Content {
                doing: doing(),
                source: FormatError::io("data", 0, "", full()),
            }
            .into(),
        ];
        for error in baked {
            assert!(JobError::from(error).is_temporary());
        }
        assert!(JobError::from(full()).is_temporary());
        let other = io::Error::from(io::ErrorKind::NotFound);
        assert!(!JobError::from(other).is_temporary());
        let refused = SourceError::new("the upload", "not an archive");
        assert!(!JobError::from(refused).is_temporary());
    }
}
