//! The trace of a boot: the first access to every page of lower data, in order.
//!
//! One bit per page of each file that is read, and one record per run of pages; further accesses to a
//! page cost one atomic read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use layerfmt::{Digest, Index, Ino};
use wire::trace::{BootTrace, PAGE_LEN, Touch};

/// Most runs recorded: 768 KiB of memory. A desktop boot has 12,000.
const RECORDS_MAX: usize = 1 << 16;
/// Largest number of pages of the files that are read: 16 MiB of bits, half a terabyte of files.
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
    index: Arc<Index>,
    /// A bit for each page of the files that were read.
    seen: HashMap<Ino, FilePages, RandomState>,
    /// Pages of these files.
    count: u64,
}

/// A bit for each page of a file.
#[derive(Debug)]
struct FilePages {
    count: u64,
    words: Box<[AtomicU64]>,
}

#[derive(Debug)]
struct TraceState {
    touches: Vec<Touch>,
    last: Instant,
}

impl TraceRecorder {
    /// A recorder for the files of `index`, whose tree has this digest.
    pub fn new(index: &Arc<Index>, tree: Digest) -> TraceRecorder {
        let pages = Pages {
            index: Arc::clone(index),
            seen: HashMap::default(),
            count: 0,
        };
        TraceRecorder {
            tree,
            open: AtomicBool::new(true),
            pages: RwLock::new(Some(pages)),
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
        let read = || self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let mut pages = read();
        if pages
            .as_ref()
            .is_some_and(|pages| !pages.seen.contains_key(&ino))
        {
            drop(pages);
            let mut all = self.pages.write().unwrap_or_else(PoisonError::into_inner);
            let fits = all.as_mut().is_some_and(|pages| pages.add(ino));
            drop(all);
            if !fits {
                return self.open.store(false, Ordering::Relaxed);
            }
            pages = read();
        }
        let Some(seen) = pages.as_ref().and_then(|pages| pages.seen.get(&ino)) else {
            return;
        };
        let end = offset.saturating_add(len).div_ceil(PAGE_LEN);
        for page in offset / PAGE_LEN..end.min(seen.count) {
            if seen.mark(page)
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
    /// Makes room for the bits of file `ino`; false if these are too many.
    fn add(&mut self, ino: Ino) -> bool {
        if self.seen.contains_key(&ino) {
            return true;
        }
        let inode = self.index.inode(ino).filter(|inode| inode.is_file());
        let count = inode.map_or(0, |inode| inode.size.div_ceil(PAGE_LEN));
        self.count = self.count.saturating_add(count);
        if self.count > PAGES_MAX {
            return false;
        }
        let words = (0..count.div_ceil(64)).map(|_| AtomicU64::new(0));
        let words = words.collect();
        self.seen.insert(ino, FilePages { count, words });
        true
    }
}

impl FilePages {
    /// True if the page was not marked before.
    fn mark(&self, page: u64) -> bool {
        let bit = 1u64 << (page % 64);
        let Some(word) = usize::try_from(page / 64)
            .ok()
            .and_then(|word| self.words.get(word))
        else {
            return false;
        };
        word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}
