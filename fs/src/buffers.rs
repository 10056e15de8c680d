//! A buffer pool: fresh pages cost more than the data written to them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use layerfmt::buffer_for;

/// Length below which the allocator serves a buffer, bytes.
const LEN_MIN: usize = 64 << 10;
/// Maximum number of pooled buffers; further ones are allocated.
const COUNT_MAX: usize = 4;
/// Maximum number of pooled bytes.
const LEN_MAX: usize = 4 << 20;

/// Buffers that wait for their next use.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    idle: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// An empty buffer for `len` bytes: a pooled one of at most twice that, or a new one, with room
    /// for later needs.
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        let fits = |buffer: &Vec<u8>| (len..=len.saturating_mul(2)).contains(&buffer.capacity());
        let mut idle = self.idle();
        if let Some(at) = idle.iter().position(fits) {
            let mut buffer = idle.swap_remove(at);
            buffer.clear();
            return buffer;
        }
        drop(idle);
        let room = len.checked_next_power_of_two().unwrap_or(len);
        // A buffer that is too long for the pool gets no spare room.
        let is_kept = len >= LEN_MIN && room <= LEN_MAX;
        buffer_for(if is_kept { room } else { len })
    }

    /// Returns `buffer` to the pool, with its contents, or drops it.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        if buffer.capacity() < LEN_MIN {
            return;
        }
        let mut idle = self.idle();
        let held: usize = idle.iter().map(Vec::capacity).sum();
        if idle.len() < COUNT_MAX && held.saturating_add(buffer.capacity()) <= LEN_MAX {
            idle.push(buffer);
        }
    }

    /// Runs `work` with a buffer of any length and any contents.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut buffer = self.idle().pop().unwrap_or_default();
        let done = work(&mut buffer);
        self.give(buffer);
        done
    }

    /// Frees the pooled buffers.
    pub(crate) fn clear(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_fits_and_keeps_a_little() {
        let buffers = BufferPool::default();
        let buffer = buffers.take(100 << 10);
        assert_eq!(buffer.capacity(), 128 << 10, "with room for a longer one");
        let place = buffer.as_ptr();
        buffers.give(buffer);
        assert_eq!(
            buffers.take(40 << 10).capacity(),
            40 << 10,
            "less than half"
        );
        assert_eq!(buffers.take(129 << 10).capacity(), 256 << 10, "too long");
        let lent = buffers.take(127 << 10);
        assert_eq!(lent.as_ptr(), place);
        let other = buffers.take(127 << 10);
        assert_ne!(other.as_ptr(), place, "it is lent");
        let long = LEN_MAX + (1 << 20);
        assert_eq!(buffers.take(long).capacity(), long, "it would not be kept");
        for len in [LEN_MIN - 1, 3 << 20, 2 << 20, 1 << 20, 1 << 10] {
            buffers.give(Vec::with_capacity(len));
        }
        let mut kept: Vec<usize> = buffers.idle().iter().map(Vec::capacity).collect();
        kept.sort_unstable();
        assert_eq!(kept, [1 << 20, 3 << 20]);
        buffers.clear();
        assert!(buffers.idle().is_empty());
    }
}
