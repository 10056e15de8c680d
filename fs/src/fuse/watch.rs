//! Ends the wait of requests whose process is killed or gone, or that would exceed the kernel's
//! limit.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::parked::{About, LotShared, Turn};
use crate::error::Error;
use crate::sys::Errno;
use crate::sys::tasks::TaskState;

/// Interval of the checks that waiting processes still exist.
const LOOK: Duration = Duration::from_millis(200);
/// Time after which the wait of a read ends whose process has exited normally: others may wait for
/// its pages.
const UNASKED_FOR: Duration = Duration::from_secs(3);

impl LotShared {
    /// Ends the waits of killed processes, until the mount ends.
    pub(super) fn watch(self: Arc<Self>) {
        loop {
            let mut state = self.lock();
            while state.parked.is_empty() && !state.over {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let (state, _) = self
                .changed
                .wait_timeout_while(state, LOOK, |state| !state.over)
                .unwrap_or_else(PoisonError::into_inner);
            if state.over {
                return;
            }
            let waiting: Vec<(u64, About)> = state
                .parked
                .iter()
                .map(|(number, parked)| (*number, parked.about))
                .collect();
            drop(state);
            for (number, about) in waiting {
                if self.is_late(&about) {
                    self.end(number, late());
                } else if self.is_unasked(&about) {
                    self.end(number, Errno::INTR.into());
                }
            }
        }
    }

    /// True if the kernel would abort the mount soon. A copy-up of our own is not a request.
    fn is_late(&self, about: &About) -> bool {
        let after = self.answered_after.filter(|_| about.job.is_none());
        after.is_some_and(|after| about.since.elapsed() > after)
    }

    fn is_unasked(&self, about: &About) -> bool {
        let Some(tasks) = self.tasks.as_ref().filter(|_| about.tid != 0) else {
            return false;
        };
        match tasks.state(about.tid) {
            TaskState::Lives => false,
            TaskState::Dies => true,
            TaskState::Gone => about.since.elapsed() > UNASKED_FOR,
        }
    }

    /// Answers a parked request with an error; it is never carried out.
    fn end(self: &Arc<Self>, number: u64, error: Error) {
        let mut state = self.lock();
        let (parked, unwanted) = self.take(&mut state, number);
        drop(state);
        drop(unwanted);
        if let Some(mut parked) = parked {
            let refused = Some(error);
            drop((parked.call)(
                &self.fs,
                Turn {
                    refused,
                    came: None,
                },
            ));
            let about = parked.about;
            if about.is_counted_later {
                self.requests.add(about.operation, about.since.elapsed());
            }
        }
    }
}

/// The kernel would end the mount for one request that waits longer.
fn late() -> Error {
    Error::fault(
        Errno::IO,
        "no server sent the data within the kernel's limit for a request",
    )
}
