//! Fetches the data of a file to be copied up, for all requests that wait for it. The upper does
//! not change before all data is local: a file of moderate length is held in memory, a longer one
//! is collected in the work directory.

use std::sync::{Arc, Mutex};

use super::parked::{Call, LotShared, Turn};
use crate::chunks::Pending;
use crate::error::Result;
use crate::filesystem::{Far, FarChunks, LayerFs, Need, Offer, Spool, Stop};

/// Number of bytes of the file requested at once.
const WINDOW_LEN: u64 = 1 << 20;
/// Stored bytes up to which the data of one file is held in memory.
const HELD_LEN_MAX: u64 = 4 << 20;

/// The progress of a copy-up.
struct CopyJob {
    need: Need,
    /// All bytes before this are local.
    at: u64,
    held: Vec<Box<dyn Pending>>,
    /// For a file that is not held in memory.
    spool: Option<Spool>,
    begun: bool,
}

/// Received data, while it is used.
struct HeldSpool {
    _came: Arc<Mutex<Came>>,
}

impl Pending for HeldSpool {}

#[derive(Default)]
struct Came {
    _held: Vec<Box<dyn Pending>>,
    _offer: Option<Offer>,
}

/// Begins to copy a file's data, as a request of our own.
pub(super) fn begin(shared: Arc<LotShared>, need: Need) -> Call {
    let mut job = CopyJob {
        need,
        at: 0,
        held: Vec::new(),
        spool: None,
        begun: false,
    };
    Box::new(move |fs, turn| {
        if !shared.is_wanted(&need) {
            return None;
        }
        match job.go_on(fs, turn) {
            Ok(None) => {
                let came = Arc::new(Mutex::new(job.end(fs)));
                shared.job_over(&need, None, || {
                    let _came = Arc::clone(&came);
                    Some(Box::new(HeldSpool { _came }))
                });
                None
            }
            Ok(Some(chunks)) => Some(Far::Chunks(chunks)),
            Err(error) => {
                shared.job_over(&need, Some(error), || None);
                None
            }
        }
    })
}

impl CopyJob {
    /// Takes the received data and advances to the next missing window; returns its chunks.
    fn go_on(&mut self, fs: &LayerFs, turn: Turn) -> Result<Option<FarChunks>> {
        if let Some(error) = turn.refused {
            return Err(error);
        }
        self.held.extend(turn.came);
        if !self.begun {
            self.begun = true;
            if fs.stored_len(&self.need) > HELD_LEN_MAX {
                self.spool = Some(fs.spool()?);
            }
        }
        while self.at < self.need.end && !fs.is_met(&self.need) {
            let len = usize::try_from(WINDOW_LEN).unwrap_or(usize::MAX);
            if !fs.is_local(&self.need, self.at, len) {
                return Ok(Some(fs.chunks_of(&self.need, self.at, len)));
            }
            if let Some(spool) = &self.spool {
                match fs.fill_spool(spool, &self.need, self.at, WINDOW_LEN) {
                    Ok(()) => self.held.clear(),
                    Err(Stop::Far(Far::Chunks(chunks))) => return Ok(Some(chunks)),
                    Err(stop) => return Err(stop.failed()),
                }
            }
            self.at = self.at.saturating_add(WINDOW_LEN);
        }
        Ok(None)
    }

    /// Ends the job, and returns the data that its waiting requests still need.
    fn end(&mut self, fs: &LayerFs) -> Came {
        let offer = self.spool.take().map(|spool| fs.offer(spool, &self.need));
        Came {
            _held: std::mem::take(&mut self.held),
            _offer: offer,
        }
    }
}
