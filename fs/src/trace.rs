//! The trace of a boot: the first access to every page of lower data, in order.
//!
//! One bit per page and one record per run of pages; further accesses to a page cost one atomic
//! read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use layerfmt::{Digest, Index, Ino};
use wire::trace::{BootTrace, PAGE_LEN, Touch};

/// Most runs recorded: 768 KiB of memory. A desktop boot has 12,000.
const RECORDS_MAX: usize = 1 << 16;
/// Largest number of pages of lower files that is recorded: 16 MiB of bits, half a terabyte of
/// files.
const PAGES_MAX: u64 = 1 << 27;
/// Time after the mount at which the recording ends by itself.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(300);
/// Time without a new page after which the recording ends, once a boot has begun.
const QUIET_MAX: Duration = Duration::from_secs(45);

/// Records first accesses until it is stopped, or the boot is clearly over.
#[derive(Debug)]
pub struct TraceRecorder {
    tree: Digest,
    /// Freed when the recording ends.
    pages: RwLock<Option<Pages>>,
    open: AtomicBool,
    started: Instant,
    state: Mutex<TraceState>,
}

/// Which pages were touched.
#[derive(Debug)]
struct Pages {
    /// For each inode the number of its first page in `seen`.
    first: Vec<u32>,
    seen: Vec<AtomicU64>,
}

#[derive(Debug)]
struct TraceState {
    touches: Vec<Touch>,
    last: Instant,
}

impl TraceRecorder {
    /// A recorder for the files of `index`, whose tree has this digest.
    pub fn new(index: &Arc<Index>, tree: Digest) -> TraceRecorder {
        let pages = Pages::of(index);
        TraceRecorder {
            tree,
            open: AtomicBool::new(pages.is_some()),
            pages: RwLock::new(pages),
            started: Instant::now(),
            state: Mutex::new(TraceState {
                touches: Vec::new(),
                last: Instant::now(),
            }),
        }
    }

    /// Notes that `len` bytes of file `ino` from `offset` were read.
    pub fn touch(&self, ino: Ino, offset: u64, len: u64) {
        if len == 0 || !self.open.load(Ordering::Relaxed) {
            return;
        }
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let Some((pages, (first, end))) = pages
            .as_ref()
            .and_then(|pages| Some((pages, pages.range(ino)?)))
        else {
            return;
        };
        let from = offset / PAGE_LEN;
        let to = offset
            .saturating_add(len)
            .div_ceil(PAGE_LEN)
            .min(end - first);
        for page in from..to {
            if pages.mark(first + page)
                && let Ok(page) = u32::try_from(page)
            {
                self.record(ino, page);
            }
        }
    }

    fn record(&self, ino: Ino, page: u32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last = Instant::now();
        if let Some(last) = state.touches.last_mut()
            && last.ino == ino
            && last.page + last.count == page
        {
            last.count += 1;
            return;
        }
        if state.touches.len() >= RECORDS_MAX {
            self.open.store(false, Ordering::Relaxed);
            return;
        }
        state.touches.push(Touch {
            ino,
            page,
            count: 1,
        });
    }

    /// True during the boot; ends the recording when it is clearly over.
    pub(crate) fn is_booting(&self) -> bool {
        if !self.open.load(Ordering::Relaxed) {
            self.stop();
            return false;
        }
        let quiet = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            !state.touches.is_empty() && state.last.elapsed() > QUIET_MAX
        };
        if quiet || self.started.elapsed() > TIME_MAX {
            self.stop();
            return false;
        }
        true
    }

    /// Ends the recording: the boot is over.
    pub fn stop(&self) {
        self.open.store(false, Ordering::Relaxed);
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        drop(pages.take());
    }

    /// The trace so far.
    pub fn trace(&self) -> BootTrace {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        BootTrace {
            tree: self.tree,
            touches: state.touches.clone(),
        }
    }
}

impl Pages {
    /// Those of all files of `index`; `None` if they are too many.
    fn of(index: &Index) -> Option<Pages> {
        let mut first = Vec::with_capacity(index.inode_count() as usize + 1);
        let mut count = 0u64;
        for ino in 0..index.inode_count() {
            first.push(u32::try_from(count).ok()?);
            let size = index
                .inode(ino)
                .filter(|inode| inode.is_file())
                .map_or(0, |inode| inode.size);
            count = count.saturating_add(size.div_ceil(PAGE_LEN));
        }
        first.push(u32::try_from(count).ok().filter(|_| count <= PAGES_MAX)?);
        let seen = (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Some(Pages { first, seen })
    }

    /// The numbers of the first page of file `ino` and of the page after its last.
    fn range(&self, ino: Ino) -> Option<(u64, u64)> {
        let first = self.first.get(ino as usize)?;
        let end = self.first.get(ino as usize + 1)?;
        Some((u64::from(*first), u64::from(*end)))
    }

    /// True if the page was not marked before.
    fn mark(&self, page: u64) -> bool {
        let bit = 1u64 << (page % 64);
        let Some(word) = usize::try_from(page / 64)
            .ok()
            .and_then(|word| self.seen.get(word))
        else {
            return false;
        };
        word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}
