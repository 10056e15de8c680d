//! An index whose whole tables come later: at first only the rows of an early index are here.
//!
//! Whoever needs another row waits for the whole ([`Late::value`]). A program that must not wait asks
//! before ([`Late::has`]).

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::early::EarlyTables;
use super::{Index, Ino};
use crate::error::{ErrorKind, FormatError, Result};
use crate::layout::columns::{Area, Column};

/// Called once: with true when the whole index is here, with false when this wait is in vain.
pub type Arrival = Box<dyn FnOnce(bool) + Send>;

/// The early tables, and the whole ones when they are here.
pub(super) struct Late {
    early: EarlyTables,
    whole: OnceLock<Arc<Index>>,
    state: Mutex<LateState>,
    changed: Condvar,
}

#[derive(Default)]
struct LateState {
    waiting: Vec<Arrival>,
    /// Called at the first wait.
    wanted: Option<Box<dyn FnOnce() + Send>>,
    /// The whole index will never be here.
    lost: bool,
}

impl std::fmt::Debug for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Late").finish_non_exhaustive()
    }
}

impl Late {
    pub(super) fn new(early: EarlyTables) -> Late {
        Late {
            early,
            whole: OnceLock::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, LateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole index, if it is here.
    pub(super) fn whole(&self) -> Option<&Arc<Index>> {
        self.whole.get()
    }

    /// The rows that are here in any case.
    pub(super) fn early(&self) -> &EarlyTables {
        &self.early
    }

    /// The value of a column in a row.
    pub(super) fn value(&self, column: Column, row: u32) -> u32 {
        if let Some(whole) = self.whole.get() {
            return whole.u32(column, row);
        }
        let value = self.early.value(column, row);
        value.unwrap_or_else(|| self.wait().u32(column, row))
    }

    /// The bytes of an area.
    pub(super) fn area(&self, area: Area, range: Range<usize>) -> &[u8] {
        if let Some(whole) = self.whole.get() {
            return whole.area(area, range);
        }
        match self.early.area(area, range.clone()) {
            Some(bytes) => bytes,
            None => self.wait().area(area, range),
        }
    }

    /// The place of the name of a dirent.
    pub(super) fn name_span(&self, row: u32) -> Range<usize> {
        if let Some(whole) = self.whole.get() {
            return whole.name_span(row);
        }
        let span = self.early.name_span(row);
        span.unwrap_or_else(|| self.wait().name_span(row))
    }

    /// True if `ino` can be used without a wait, and a directory with all of its entries.
    pub(super) fn has(&self, ino: Ino) -> bool {
        self.whole.get().is_some() || self.early.has(ino)
    }

    /// True if the attributes of `ino` can be read without a wait.
    pub(super) fn shows(&self, ino: Ino) -> bool {
        self.whole.get().is_some() || self.early.value(Column::InodeMode, ino).is_some()
    }

    /// Waits for the whole index. If it is lost, the request of this thread ends here: the panic
    /// that unwinds it is not reported, and the caller's guard answers an error.
    pub(super) fn wait(&self) -> &Arc<Index> {
        let mut state = self.lock();
        loop {
            if let Some(whole) = self.whole.get() {
                return whole;
            }
            if state.lost {
                drop(state);
                std::panic::resume_unwind(Box::new("the whole index is lost"));
            }
            if let Some(wanted) = state.wanted.take() {
                drop(state);
                wanted();
                state = self.lock();
                continue;
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Calls `wanted` at the first wait, which may be over already.
    pub(super) fn when_wanted(&self, wanted: Box<dyn FnOnce() + Send>) {
        self.lock().wanted = Some(wanted);
    }

    /// Calls `then` when the whole index is here, or will not be; at once if that is so now.
    pub(super) fn when_whole(&self, then: Arrival) {
        let mut state = self.lock();
        let is_whole = self.whole.get().is_some();
        if is_whole || state.lost {
            drop(state);
            return then(is_whole);
        }
        state.waiting.push(then);
        let wanted = state.wanted.take();
        drop(state);
        if let Some(wanted) = wanted {
            wanted();
        }
    }

    /// The whole index is here.
    pub(super) fn arrive(&self, whole: Arc<Index>) -> Result<()> {
        if !self.early.agrees_with(&whole) {
            let what = "the early index in META has other values";
            return Err(FormatError::new(ErrorKind::Corrupt, "INDEX", 0, what));
        }
        let _ = self.whole.set(whole);
        self.end_waits(true);
        Ok(())
    }

    /// Those who wait now, wait in vain; with `lost` later ones too.
    pub(super) fn disappoint(&self, lost: bool) {
        self.lock().lost |= lost;
        self.end_waits(false);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lock().lost
    }

    fn end_waits(&self, is_whole: bool) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        self.changed.notify_all();
        for then in waiting {
            then(is_whole);
        }
    }
}
