//! Decoded chunks beyond the capacity of the chunk cache, in memory that the kernel takes back first
//! when it is short. A chunk that it took is decoded again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{SURPLUS_LEN_MAX, SURPLUS_SHARE};
use crate::sys::memory::ReclaimablePages;

/// Bookkeeping counted for each chunk, bytes.
const ENTRY_LEN: u64 = 160;
/// Time without new chunks after the kernel took one: memory is short.
const PAUSE: Duration = Duration::from_secs(10);

/// Decoded chunks by their numbers, bounded in bytes. When it is full it takes no more until it is
/// cleared.
#[derive(Debug)]
pub(super) struct Surplus {
    state: Mutex<SurplusState>,
    len_max: u64,
}

#[derive(Debug, Default)]
struct SurplusState {
    chunks: HashMap<u32, Arc<ReclaimablePages>>,
    len: u64,
    paused: Option<Instant>,
}

/// The surplus that this machine can afford, bytes.
pub(crate) fn affordable_len() -> u64 {
    let machine = rustix::system::sysinfo();
    let memory = machine.totalram.saturating_mul(machine.mem_unit.into());
    (memory / SURPLUS_SHARE).min(SURPLUS_LEN_MAX)
}

impl Surplus {
    /// At most `len_max` bytes; 0 keeps nothing.
    pub(super) fn new(len_max: u64) -> Surplus {
        Surplus {
            state: Mutex::default(),
            len_max,
        }
    }

    /// The maximum number of bytes.
    pub(super) fn capacity(&self) -> u64 {
        self.len_max
    }

    /// True if it would keep a chunk of this length.
    pub(super) fn has_room_for(&self, raw_len: u64) -> bool {
        let state = self.lock();
        let is_paused = state.paused.is_some_and(|at| at.elapsed() < PAUSE);
        !is_paused && state.len.saturating_add(raw_len + ENTRY_LEN) <= self.len_max
    }

    /// Keeps a copy of chunk `id`.
    pub(super) fn keep(&self, id: u32, bytes: &[u8]) {
        let pages = match ReclaimablePages::new(bytes) {
            Ok(pages) => Arc::new(pages),
            Err(errno) => {
                tracing::debug!(%errno, "no memory for a decoded chunk");
                self.lock().paused = Some(Instant::now());
                return;
            }
        };
        let len = pages.held_len() as u64 + ENTRY_LEN;
        let mut state = self.lock();
        if state.len.saturating_add(len) <= self.len_max && !state.chunks.contains_key(&id) {
            state.len += len;
            state.chunks.insert(id, pages);
        }
    }

    /// Fills `place` with the bytes from `inside` chunk `id` on; true if they are here.
    pub(super) fn copy(&self, id: u32, inside: usize, place: &mut [u8]) -> bool {
        let Some(pages) = self.lock().chunks.get(&id).map(Arc::clone) else {
            return false;
        };
        let is_here = pages.copy(inside, place);
        if !is_here {
            self.clear();
            self.lock().paused = Some(Instant::now());
        }
        is_here
    }

    /// True if chunk `id` is here, unless the kernel has taken it.
    pub(super) fn knows(&self, id: u32) -> bool {
        self.lock().chunks.contains_key(&id)
    }

    /// Bytes held now.
    pub(super) fn len(&self) -> u64 {
        self.lock().len
    }

    /// Frees all chunks.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        state.len = 0;
        let chunks = std::mem::take(&mut state.chunks);
        drop(state);
        drop(chunks);
    }

    fn lock(&self) -> MutexGuard<'_, SurplusState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u64 = 8192;

    fn chunk(id: u32) -> Vec<u8> {
        vec![id as u8; LEN as usize]
    }

    #[test]
    fn it_fills_up_to_its_limit_and_is_cleared() {
        let surplus = Surplus::new(3 * (LEN + ENTRY_LEN + 16));
        let mut place = [0; 10];
        for id in 0..3 {
            assert!(surplus.has_room_for(LEN), "{id}");
            surplus.keep(id, &chunk(id));
            surplus.keep(id, &chunk(id));
            assert!(surplus.copy(id, 4090, &mut place));
            assert_eq!(place, [id as u8; 10]);
        }
        assert!(!surplus.has_room_for(LEN));
        surplus.keep(3, &chunk(3));
        assert!(!surplus.knows(3) && !surplus.copy(3, 0, &mut place));
        assert_eq!(surplus.len(), surplus.capacity());
        surplus.clear();
        assert!(!surplus.knows(0) && surplus.len() == 0 && surplus.has_room_for(LEN));
        assert!(!Surplus::new(0).has_room_for(1));
    }

    #[test]
    fn a_chunk_that_the_kernel_took_is_not_shown_and_stops_the_growth() {
        let surplus = Surplus::new(1 << 20);
        for id in 0..2 {
            surplus.keep(id, &chunk(id));
        }
        surplus.lock().chunks[&1].take(1);
        let mut place = [0; 10];
        assert!(surplus.copy(1, 0, &mut place), "its first page is there");
        assert!(!surplus.copy(1, 4096, &mut place));
        assert!(!surplus.knows(0) && !surplus.knows(1) && surplus.len() == 0);
        assert!(!surplus.has_room_for(1), "memory is short");
    }
}
