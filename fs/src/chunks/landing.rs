//! Received data of waiting requests, held until they have used it: an eviction between arrival and
//! use does not make a request wait again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use layerfmt::Digest;

/// Maximum number of held bytes. Further data is left to the caches, and is requested again if
/// these evict it.
const HELD_LEN_MAX: u64 = 32 << 20;
/// Time for which an unavailable chunk is refused at once: after a failed read-ahead the kernel
/// requests it again, for the same reader.
const REFUSED_FOR: Duration = Duration::from_secs(2);

/// The bytes of one chunk.
#[derive(Debug, Clone)]
pub(crate) enum Landed {
    /// Stored bytes, verified.
    Stored(Bytes),
    /// Decoded: a boot pack's chunk, made from the layers.
    Decoded(Arc<Vec<u8>>),
}

/// The reason why a local copy, or a chunk of the boot pack, is not used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// The local copy cannot be read.
    Lost,
    /// Its bytes do not decode: made from the layers.
    Broken,
}

#[derive(Debug)]
struct Landing {
    landed: Landed,
    users: u32,
}

#[derive(Debug, Default)]
struct LandingState {
    held: HashMap<Digest, Landing>,
    len: u64,
    suspicions: HashMap<Digest, Suspicion>,
    refused: HashMap<Digest, Instant>,
}

/// The held data, by digest.
#[derive(Debug, Default)]
pub(crate) struct Landings {
    state: Mutex<LandingState>,
    /// Number of entries of any kind; readers look no further if it is 0.
    entries: AtomicUsize,
}

impl Landings {
    fn lock(&self) -> MutexGuard<'_, LandingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut LandingState) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        let entries = state.held.len() + state.suspicions.len() + state.refused.len();
        self.entries.store(entries, Ordering::Release);
        changed
    }

    fn is_empty(&self) -> bool {
        self.entries.load(Ordering::Acquire) == 0
    }

    /// The chunk, if it is held.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Landed> {
        if self.is_empty() {
            return None;
        }
        let state = self.lock();
        state.held.get(digest).map(|held| held.landed.clone())
    }

    /// The chunk, if it is held; counts one more user of it.
    pub(crate) fn join(&self, digest: &Digest) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut state = self.lock();
        let held = state.held.get_mut(digest);
        held.map(|held| held.users += 1).is_some()
    }

    /// Holds the chunk for one more user, if there is room; returns true if it does.
    pub(crate) fn hold(&self, digest: &Digest, landed: Landed) -> bool {
        self.change(|state| {
            if state.suspicions.get(digest) == Some(&Suspicion::Lost) {
                state.suspicions.remove(digest);
            }
            if let Some(held) = state.held.get_mut(digest) {
                held.users += 1;
                return true;
            }
            let len = landed_len(&landed);
            let must = matches!(landed, Landed::Decoded(_));
            if !must && state.len.saturating_add(len) > HELD_LEN_MAX {
                return false;
            }
            state.len = state.len.saturating_add(len);
            state.held.insert(*digest, Landing { landed, users: 1 });
            true
        })
    }

    /// Releases one user of each of `digests`.
    pub(crate) fn release(&self, digests: &[Digest]) {
        if digests.is_empty() {
            return;
        }
        self.change(|state| {
            for digest in digests {
                let Some(held) = state.held.get_mut(digest) else {
                    continue;
                };
                held.users = held.users.saturating_sub(1);
                if held.users == 0
                    && let Some(held) = state.held.remove(digest)
                {
                    state.len = state.len.saturating_sub(landed_len(&held.landed));
                }
            }
        });
    }

    /// The known fault of the chunk.
    pub(crate) fn suspicion(&self, digest: &Digest) -> Option<Suspicion> {
        if self.is_empty() {
            return None;
        }
        self.lock().suspicions.get(digest).cloned()
    }

    /// Records a fault of the chunk.
    pub(crate) fn suspect(&self, digest: &Digest, suspicion: Suspicion) {
        self.change(|state| state.suspicions.insert(*digest, suspicion));
    }

    /// Records that these chunks did not arrive in time.
    pub(crate) fn refuse(&self, digests: impl Iterator<Item = Digest>) {
        let now = Instant::now();
        self.change(|state| {
            state
                .refused
                .retain(|_, since| now.duration_since(*since) < REFUSED_FOR);
            state.refused.extend(digests.map(|digest| (digest, now)));
        });
    }

    /// True if the chunk was refused a moment ago.
    pub(crate) fn is_refused(&self, digest: &Digest) -> bool {
        if self.is_empty() {
            return false;
        }
        let state = self.lock();
        let since = state.refused.get(digest);
        since.is_some_and(|since| since.elapsed() < REFUSED_FOR)
    }
}

fn landed_len(landed: &Landed) -> u64 {
    match landed {
        Landed::Stored(bytes) => bytes.len() as u64,
        Landed::Decoded(bytes) => bytes.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_goes_with_its_last_user_and_there_is_a_limit() {
        let landings = Landings::default();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert!(landings.get(&a).is_none() && !landings.join(&a));
        let half = Bytes::from(vec![0; usize::try_from(HELD_LEN_MAX / 2 + 1).unwrap()]);
        assert!(landings.hold(&a, Landed::Stored(half.clone())));
        assert!(landings.join(&a));
        assert!(!landings.hold(&b, Landed::Stored(half.clone())), "no room");
        assert!(landings.hold(&b, Landed::Decoded(Arc::default())));
        landings.release(&[a]);
        assert!(landings.get(&a).is_some());
        landings.release(&[a, b]);
        assert!(landings.get(&a).is_none() && landings.is_empty());
        assert!(landings.hold(&b, Landed::Stored(half)));
    }

    #[test]
    fn a_lost_copy_is_forgotten_when_the_chunk_comes_and_a_broken_chunk_is_not() {
        let landings = Landings::default();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        landings.suspect(&a, Suspicion::Lost);
        landings.suspect(&b, Suspicion::Broken);
        assert_eq!(landings.suspicion(&a), Some(Suspicion::Lost));
        for digest in [a, b] {
            landings.hold(&digest, Landed::Stored(Bytes::new()));
        }
        assert_eq!(landings.suspicion(&a), None);
        assert_eq!(landings.suspicion(&b), Some(Suspicion::Broken));
        landings.refuse([a].into_iter());
        assert!(landings.is_refused(&a) && !landings.is_refused(&b));
    }
}
