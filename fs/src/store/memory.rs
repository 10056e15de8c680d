//! Stored chunks in memory, evicting the least recently used first. The kernel may reclaim idle
//! chunks when memory is short.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use layerfmt::Digest;
use lru::LruCache;

use crate::sys::memory::ReclaimableBytes;

/// Bookkeeping counted for each chunk, bytes.
const OVERHEAD: u64 = 160;

/// Verified stored bytes, bounded in bytes. Returned bytes were verified when they were inserted,
/// and again if the kernel could have reclaimed them meanwhile.
#[derive(Debug)]
pub(crate) struct MemoryCache {
    state: Mutex<MemoryState>,
    len_max: u64,
}

#[derive(Debug)]
struct MemoryState {
    chunks: LruCache<Digest, CachedBytes>,
    len: u64,
}

#[derive(Debug)]
enum CachedBytes {
    Ours(Bytes),
    Reclaimable(ReclaimableBytes),
}

impl CachedBytes {
    fn cost(&self) -> u64 {
        let len = match self {
            CachedBytes::Ours(bytes) => bytes.len(),
            CachedBytes::Reclaimable(reclaimable) => reclaimable.byte_len(),
        };
        len as u64 + OVERHEAD
    }
}

impl MemoryCache {
    /// At most `len_max` bytes; 0 caches nothing.
    pub(crate) fn new(len_max: u64) -> Self {
        let state = MemoryState {
            chunks: LruCache::unbounded(),
            len: 0,
        };
        MemoryCache {
            state: Mutex::new(state),
            len_max,
        }
    }

    /// The chunk, if it is here.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Bytes> {
        let bytes = match self.lock().chunks.get(digest)? {
            CachedBytes::Ours(bytes) => return Some(bytes.clone()),
            CachedBytes::Reclaimable(reclaimable) => reclaimable.copy(),
        };
        if Digest::of(&bytes) == *digest {
            return Some(Bytes::from(bytes));
        }
        let mut state = self.lock();
        // Another thread may have fetched it meanwhile.
        if let Some(CachedBytes::Reclaimable(_)) = state.chunks.peek(digest)
            && let Some(taken) = state.chunks.pop(digest)
        {
            state.len = state.len.saturating_sub(taken.cost());
        }
        None
    }

    /// Lets the kernel reclaim every chunk when memory is short; reclaimed chunks are fetched
    /// again.
    pub(crate) fn make_reclaimable(&self) {
        let ours: Vec<Digest> = self
            .lock()
            .chunks
            .iter()
            .filter(|(_, kept)| matches!(kept, CachedBytes::Ours(_)))
            .map(|(digest, _)| *digest)
            .collect();
        for digest in ours {
            // One at a time: readers wait for no more than that.
            let mut state = self.lock();
            let Some(kept) = state.chunks.peek_mut(&digest) else {
                continue;
            };
            let CachedBytes::Ours(bytes) = kept else {
                continue;
            };
            match ReclaimableBytes::new(bytes) {
                Ok(reclaimable) => *kept = CachedBytes::Reclaimable(reclaimable),
                Err(errno) => {
                    tracing::debug!(%errno, "the kernel cannot reclaim stored chunks");
                    return;
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MemoryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the chunk is here; does not count as a use.
    pub(crate) fn knows(&self, digest: &Digest) -> bool {
        self.lock().chunks.contains(digest)
    }

    /// Inserts a chunk. Bytes that are part of a larger buffer are copied first.
    pub(crate) fn put(&self, digest: &Digest, bytes: &Bytes) {
        let cost = bytes.len() as u64 + OVERHEAD;
        if cost > self.len_max {
            return;
        }
        let mut state = self.lock();
        let kept = CachedBytes::Ours(bytes.clone());
        if state.chunks.put(*digest, kept).is_none() {
            state.len += cost;
        }
        while state.len > self.len_max {
            let Some((_, dropped)) = state.chunks.pop_lru() else {
                break;
            };
            state.len = state.len.saturating_sub(dropped.cost());
        }
    }

    /// Bytes held now.
    pub(crate) fn len(&self) -> u64 {
        self.lock().len
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

    #[test]
    fn a_lent_chunk_is_given_back_whole_or_not_at_all() {
        let cache = MemoryCache::new(1 << 20);
        let bytes = Bytes::from(vec![7; 9000]);
        let digest = Digest::of(&bytes);
        cache.put(&digest, &bytes);
        cache.make_reclaimable();
        assert_eq!(cache.get(&digest), Some(bytes.clone()));
        // Also twice, and together with a chunk that cannot be reclaimed.
        cache.make_reclaimable();
        let other = Bytes::from(vec![8; 10]);
        cache.put(&Digest::of(&other), &other);
        assert_eq!(cache.get(&digest), Some(bytes.clone()));
        assert_eq!(cache.len(), 9000 + 10 + 2 * OVERHEAD);
        match cache.lock().chunks.get(&digest) {
            Some(CachedBytes::Reclaimable(reclaimable)) => reclaimable.take(),
            other => panic!("{other:?}"),
        }
        assert!(cache.knows(&digest));
        assert_eq!(cache.get(&digest), None, "the kernel took it");
        assert!(!cache.knows(&digest));
        assert_eq!(cache.len(), 10 + OVERHEAD);
        cache.put(&digest, &bytes);
        assert_eq!(cache.get(&digest), Some(bytes));
    }
}
