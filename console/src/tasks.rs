//! Long operations: imports, verification, sweeps. They run in threads and report progress.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::text::{hex, now, random};

/// Number of operations that the console remembers.
const REMEMBERED_MAX: usize = 50;
/// Maximum number of operations that run at the same time; further ones are refused.
const RUNNING_MAX: usize = 4;

/// The state of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TaskState {
    /// It runs; the text names its step.
    Running(String),
    /// It succeeded: its result, and the page to look at.
    Done(String, String),
    /// It failed.
    Failed(String),
}

/// One operation.
#[derive(Debug)]
pub(crate) struct Task {
    /// Its number, which is hard to guess.
    pub(crate) id: String,
    /// The text of the action.
    pub(crate) what: String,
    /// The account that started it.
    pub(crate) who: String,
    /// Start, seconds since 1970.
    pub(crate) began: u64,
    done: AtomicU64,
    total: AtomicU64,
    state: Mutex<TaskState>,
}

impl Task {
    /// Adds to the finished part.
    pub(crate) fn add(&self, amount: u64) {
        self.done.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets the size of the whole; 0: unknown.
    pub(crate) fn set_total(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// The finished part and the whole.
    pub(crate) fn amounts(&self) -> (u64, u64) {
        let total = self.total.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed), total)
    }

    /// The finished part in per cent, if the whole is known.
    pub(crate) fn percent(&self) -> Option<u64> {
        let (done, total) = self.amounts();
        done.saturating_mul(100)
            .checked_div(total)
            .map(|percent| percent.min(100))
    }

    /// Names the present step.
    pub(crate) fn step(&self, text: &str) {
        self.set(TaskState::Running(text.to_owned()));
    }

    /// The present state.
    pub(crate) fn state(&self) -> TaskState {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, state: TaskState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// True until it has succeeded or failed.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state(), TaskState::Running(_))
    }
}

/// All remembered operations, newest first.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Mutex<VecDeque<Arc<Task>>>);

/// An operation's result: text and page, or the error.
pub(crate) type TaskResult = Result<(String, String), String>;

impl Tasks {
    /// Starts an operation in a thread.
    ///
    /// # Errors
    /// Too many run, or no thread can be made.
    pub(crate) fn start(
        &self,
        what: &str,
        who: &str,
        work: impl FnOnce(&Task) -> TaskResult + Send + 'static,
    ) -> Result<Arc<Task>, String> {
        let id = random::<10>().map_err(|error| error.to_string())?;
        let task = Arc::new(Task {
            id: hex(&id),
            what: what.to_owned(),
            who: who.to_owned(),
            began: now(),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            state: Mutex::new(TaskState::Running(String::new())),
        });
        {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.iter().filter(|task| task.is_running()).count() >= RUNNING_MAX {
                return Err("too many operations run already: wait until one ends".into());
            }
            all.push_front(Arc::clone(&task));
            while all.len() > REMEMBERED_MAX {
                all.pop_back();
            }
        }
        let own = Arc::clone(&task);
        let run = move || {
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&own)));
            own.set(match worked {
                Ok(Ok((text, page))) => TaskState::Done(text, page),
                Ok(Err(error)) => TaskState::Failed(error),
                Err(_) => TaskState::Failed("the operation crashed: see the journal".into()),
            });
        };
        let thread = std::thread::Builder::new().name("task".into()).spawn(run);
        match thread {
            Ok(_) => Ok(task),
            Err(error) => {
                task.set(TaskState::Failed(error.to_string()));
                Err(error.to_string())
            }
        }
    }

    /// The operation with this number.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Task>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|task| task.id == id).cloned()
    }

    /// All operations, newest first.
    pub(crate) fn list(&self) -> Vec<Arc<Task>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_a_failure() {
        let tasks = Tasks::default();
        let task = tasks.start("x", "ann", |_| panic!("boom")).unwrap();
        while task.is_running() {
            std::thread::yield_now();
        }
        assert!(matches!(task.state(), TaskState::Failed(_)));
        assert_eq!(tasks.find(&task.id).unwrap().what, "x");
    }
}
