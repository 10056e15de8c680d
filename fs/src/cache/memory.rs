//! Stored chunks in memory, the least recently used dropped first.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use layerfmt::Digest;
use lru::LruCache;

/// Bookkeeping counted for each chunk, bytes.
const OVERHEAD: u64 = 160;

/// Verified stored bytes, bounded in bytes. Memory is the mount's own, so what comes out was verified
/// when it went in; the decoder checks it once more.
#[derive(Debug)]
pub struct MemoryCache {
    state: Mutex<State>,
    len_max: u64,
}

#[derive(Debug)]
struct State {
    chunks: LruCache<Digest, Bytes>,
    len: u64,
}

impl MemoryCache {
    /// At most `len_max` bytes; 0 keeps nothing.
    pub fn new(len_max: u64) -> Self {
        let state = State {
            chunks: LruCache::unbounded(),
            len: 0,
        };
        MemoryCache {
            state: Mutex::new(state),
            len_max,
        }
    }

    /// The chunk, if it is here.
    pub fn get(&self, digest: &Digest) -> Option<Bytes> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.chunks.get(digest).cloned()
    }

    /// True if the chunk is here; does not count as a use.
    pub fn knows(&self, digest: &Digest) -> bool {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .chunks
            .contains(digest)
    }

    /// Keeps a chunk. Bytes that are part of something larger are copied out of it first.
    pub fn put(&self, digest: &Digest, bytes: &Bytes) {
        let cost = bytes.len() as u64 + OVERHEAD;
        if cost > self.len_max {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.chunks.put(*digest, bytes.clone()).is_none() {
            state.len += cost;
        }
        while state.len > self.len_max {
            let Some((_, dropped)) = state.chunks.pop_lru() else {
                break;
            };
            state.len = state.len.saturating_sub(dropped.len() as u64 + OVERHEAD);
        }
    }

    /// Bytes held now.
    pub fn len(&self) -> u64 {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len
    }

    /// True if nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_bound_and_drops_the_least_recently_used() {
        let cache = MemoryCache::new(3 * (1000 + OVERHEAD));
        let chunk = |i: u8| (Digest::of(&[i]), Bytes::from(vec![i; 1000]));
        for i in 0..3 {
            let (digest, bytes) = chunk(i);
            cache.put(&digest, &bytes);
            cache.put(&digest, &bytes);
        }
        assert!(cache.get(&chunk(0).0).is_some());
        cache.put(&chunk(3).0, &chunk(3).1);
        assert!(
            cache.get(&chunk(1).0).is_none(),
            "1 was the least recently used"
        );
        assert_eq!(cache.get(&chunk(0).0), Some(chunk(0).1));
        assert_eq!(cache.len(), 3 * (1000 + OVERHEAD));
        MemoryCache::new(0).put(&chunk(0).0, &chunk(0).1);
    }
}
