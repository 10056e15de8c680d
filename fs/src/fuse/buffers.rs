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
    /// A buffer with anything in it, or an empty one.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop().unwrap_or_default()
    }

    /// For the next read.
    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT_MAX {
            idle.push(buffer);
        }
    }
}
