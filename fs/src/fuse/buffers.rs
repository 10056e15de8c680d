//! Memory for the answers to reads, used again: fresh pages cost more than what is put in them.

use std::sync::{Mutex, PoisonError};

/// Buffers kept at most; more reads at once make their own.
const KEPT_MAX: usize = 4;

/// A few buffers between two reads.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    idle: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Lends `work` a buffer with anything in it.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut buffer = self.idle().pop().unwrap_or_default();
        let done = work(&mut buffer);
        let mut idle = self.idle();
        if idle.len() < KEPT_MAX {
            idle.push(buffer);
        }
        done
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
