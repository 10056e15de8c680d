//! Requests of root to the source of chunks, through attributes of the root directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use fuser::{INodeNo, ReplyEmpty, ReplyXattr, Request};

use super::Adapter;
use super::adapter::caller;
use super::parked::{About, Lot, call};
use super::store::STORE;
use crate::fetch::{Answer, Coming, QUESTION_PREFIX, Then};
use crate::filesystem::reply::ROOT_ID;
use crate::status::STATUS_XATTR;
use crate::sys;

/// Holds the answer until the waiting request is retried.
type Slot = Arc<Mutex<Option<Vec<u8>>>>;

fn take(slot: &Slot) -> Option<Vec<u8>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Puts the answer into `slot`, then notifies.
fn fill(slot: &Slot, then: Then) -> Answer {
    let slot = Arc::clone(slot);
    Box::new(move |answer| {
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        then(Ok(()));
    })
}

impl Adapter {
    /// The request in attribute `name`, and the place for its answer.
    pub(super) fn question(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
    ) -> Option<(&Lot, String)> {
        let question = name.to_str()?.strip_prefix(QUESTION_PREFIX)?;
        let asks = ino.0 == ROOT_ID && name.as_bytes() != STATUS_XATTR && caller(req).is_root();
        let lot = self.lot.as_ref().filter(|_| asks)?;
        Some((lot, question.to_owned()))
    }

    /// Answers a question; may take long.
    pub(super) fn ask_source(
        &self,
        lot: &Lot,
        about: About,
        question: String,
        size: u32,
        reply: ReplyXattr,
    ) {
        let fs = Arc::clone(&self.fs);
        if question == STORE {
            let pages = Arc::clone(&self.pages);
            return lot.work(Box::new(move || {
                let stored = pages.answer(&fs).ok_or(sys::Errno::NODATA);
                Self::value(reply, size, stored);
            }));
        }
        let slot = Slot::default();
        let answered = Arc::clone(&slot);
        let answer = move |reply, value| Self::value(reply, size, value);
        let call = call(reply, answer, move |_| {
            Ok(take(&answered).ok_or(sys::Errno::NODATA)?)
        });
        lot.park_until(about, call, |then| -> Box<dyn Coming> {
            fs.lower.chunks.answer(&question, fill(&slot, then))
        });
    }

    /// Passes a value to the source; may take long.
    pub(super) fn tell_source(
        &self,
        lot: &Lot,
        about: About,
        told: &str,
        value: &[u8],
        reply: ReplyEmpty,
    ) {
        let slot = Slot::default();
        let answered = Arc::clone(&slot);
        let call = call(reply, Self::empty, move |_| {
            Ok(take(&answered).map(drop).ok_or(sys::Errno::IO)?)
        });
        let chunks = &self.fs.lower.chunks;
        lot.park_until(about, call, |then| -> Box<dyn Coming> {
            chunks.tell(told, value, fill(&slot, then))
        });
    }
}
