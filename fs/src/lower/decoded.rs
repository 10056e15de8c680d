//! A decoded chunk in the cache, the number of its returned bytes, and the pool of its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::buffers::BufferPool;

/// The bytes of one chunk, or the first of them. Its memory returns to the buffer pool.
#[derive(Debug)]
pub(super) struct Decoded {
    bytes: Vec<u8>,
    given: AtomicUsize,
    buffers: Arc<BufferPool>,
}

impl Decoded {
    /// `bytes`, of which `given` were returned.
    pub(super) fn new(bytes: Vec<u8>, given: usize, buffers: Arc<BufferPool>) -> Decoded {
        Decoded {
            bytes,
            given: AtomicUsize::new(given),
            buffers,
        }
    }

    /// The decoded bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True if the first `len` bytes are decoded.
    pub(super) fn reaches(&self, len: usize) -> bool {
        self.bytes.len() >= len
    }

    /// Occupied memory, bytes.
    pub(super) fn held_len(&self) -> usize {
        self.bytes.capacity()
    }

    /// Fills `place` with the bytes from `inside` on. `None` if there are fewer. True once all
    /// bytes were returned: the kernel has cached them, and rarely requests them again.
    pub(super) fn copy(&self, inside: usize, place: &mut [u8]) -> Option<bool> {
        let bytes = self.bytes.get(inside..)?.get(..place.len())?;
        place.copy_from_slice(bytes);
        let before = self.given.fetch_add(place.len(), Ordering::Relaxed);
        Some(before.saturating_add(place.len()) >= self.bytes.len())
    }
}

impl Drop for Decoded {
    fn drop(&mut self) {
        self.buffers.give(std::mem::take(&mut self.bytes));
    }
}
