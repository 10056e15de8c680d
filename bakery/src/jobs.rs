//! Jobs: pushes that wait to be baked, are being baked, or were baked.
//!
//! A job is a directory in the spool, and its parent directory is its state:
//!
//! ```text
//! incoming/<system>[/<profile>]/NAME.tar.zst   dropped by hand or by a script
//! incoming/.parts/<id>/                        incomplete; not acknowledged
//! queued/<id>/ → running/<id>/ → done/<id>/ or failed/<id>/
//! ```
//!
//! Each arrow is one `rename(2)` after everything in the directory was synced, so a job is
//! in exactly one state at any instant, after any kill or power failure. A sender receives a
//! job's number only when the job is durable in `queued/`.
//!
//! A job contains `request.json`, `upper.tar.zst` (the changes; removed once they are
//! published), `progress.json`, `log` (the baker's output), `result.json` (the result),
//! `approved.json` (if the history wants approvals) and `lock` (held by the process that works on it).

mod approval;
mod arrival;
mod error;
mod files;
pub(crate) mod limits;
mod records;
mod runner;
mod spool;

pub use approval::Approval;
pub(crate) use arrival::{Arrival, ArrivalError};
pub use error::JobError;
pub use records::{JobRequest, Origin, Target, TargetError, warnings};
pub use runner::{Baker, JobOutcome};
pub use spool::{Job, Spool, SpoolState};
pub(crate) use wire::push::{Ending, Progress};

pub(crate) use arrival::{recover, take_dropped};
pub(crate) use files::Lock;
pub(crate) use runner::{base_of, made_on};

/// The name of the uploaded changes inside a job.
pub(crate) const BODY: &str = "upper.tar.zst";

/// Exit code of a baker that could not finish for a reason outside the upload (`EX_TEMPFAIL`).
pub(crate) const TRY_AGAIN: u8 = 75;
