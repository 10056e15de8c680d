//! The log lines of a watcher: one for each ended job.

use crate::jobs::{Ending, Job, warnings};

/// The target of log lines that a service prints without `-v`: one for each item of its work.
pub(crate) const NEWS: &str = "news";

/// Maximum number of logged warnings of one job; `bakery jobs ID` has all of them.
const WARNINGS_SAID_MAX: usize = 10;

/// Logs the result of a job, its author, and findings for the user.
pub(super) fn say(job: &Job) {
    let (Ok(Some(ending)), Ok(request)) = (job.ending(), job.request()) else {
        return;
    };
    let target = &request.target;
    let subject = request.message.lines().next().unwrap_or_default();
    let by = match request.origin.key() {
        Some(key) => format!("{}, key {}", request.author, key.comment),
        None => request.author.clone(),
    };
    let id = job.id;
    match &ending {
        Ending::Published {
            revision, report, ..
        } => {
            tracing::info!(target: NEWS, "published {target}@{revision}: {subject} ({by}; job {id})");
            let warnings = warnings(report);
            for warning in warnings.iter().take(WARNINGS_SAID_MAX) {
                tracing::warn!("{target}@{revision}: {warning}");
            }
            if warnings.len() > WARNINGS_SAID_MAX {
                let more = warnings.len() - WARNINGS_SAID_MAX;
                tracing::warn!("{target}@{revision}: {more} more warnings: see `bakery jobs {id}`");
            }
        }
        Ending::Unchanged { revision, .. } => {
            tracing::info!(target: NEWS, "no change to {target}@{revision}: {subject} ({by}; job {id})");
        }
        Ending::Failed { error } => {
            let error = error.lines().next().unwrap_or_default();
            tracing::warn!("job {id} for {target} failed: {error} ({by})");
        }
    }
}
