//! Requests of root to the stack, through attributes of the root directory.

use std::sync::{Arc, Mutex, PoisonError};

use fuser::{Errno, INodeNo, ReplyEmpty, ReplyXattr, Request};

use super::Adapter;
use super::adapter::caller;
use super::answers;
use super::parked::{About, Lot, call};
use crate::chunks::{OnAnswer, Pending, Ready};
use crate::control::{Command, Question};
use crate::filesystem::reply::ROOT_ID;
use crate::limits::ANSWER_PART_LEN;
use crate::lower::chunks::Brought;
use crate::switch::{Switch, SwitchRequest};
use crate::sys;

/// Holds the answer until the waiting request is retried.
type Slot = Arc<Mutex<Option<Vec<u8>>>>;

fn take(slot: &Slot) -> Option<Vec<u8>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Puts the answer into `slot`, then notifies.
fn fill(slot: &Slot, then: Brought) -> OnAnswer {
    let slot = Arc::clone(slot);
    Box::new(move |answer| {
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        then(Ok(()));
    })
}

impl Adapter {
    /// The place where root's requests to the stack wait for their answers.
    pub(super) fn control_lot(&self, req: &Request, ino: INodeNo) -> Option<&Lot> {
        let asks = ino.0 == ROOT_ID && caller(req).is_root();
        self.lot.as_ref().filter(|_| asks)
    }

    /// Answers a question; may take long.
    pub(super) fn ask(
        &self,
        lot: &Lot,
        about: About,
        question: Question,
        size: u32,
        reply: ReplyXattr,
    ) {
        let fs = Arc::clone(&self.fs);
        if question == Question::StorePages {
            let pages = Arc::clone(&self.pages);
            return lot.work(Box::new(move || {
                let stored = pages.answer(&fs).ok_or(Errno::ENODATA);
                answers::value(reply, size, stored);
            }));
        }
        let slot = Slot::default();
        let answered = Arc::clone(&slot);
        let answer = move |reply, value| answers::value(reply, size, value);
        let switch = self.switch.clone();
        let call = call(about, reply, answer, move |_| {
            Ok(take(&answered).ok_or(sys::Errno::NODATA)?)
        });
        lot.park_until(about, call, |then| -> Box<dyn Pending> {
            match (question, switch) {
                (Question::SwitchReport(part), Some(switch)) => {
                    switch.report(part, ANSWER_PART_LEN, fill(&slot, then));
                    Box::new(Ready)
                }
                (Question::Pack(_), _) => {
                    // The list of the pack's files needs all rows.
                    let (index, answer) = (Arc::clone(&fs.lower().index), fill(&slot, then));
                    let fs = Arc::clone(&fs);
                    index.when_whole(Box::new(move |is_whole| match is_whole {
                        true => drop(fs.lower().control.ask(question, answer)),
                        false => answer(None),
                    }));
                    Box::new(Ready)
                }
                _ => fs.lower().control.ask(question, fill(&slot, then)),
            }
        });
    }

    /// Starts a switch. The request is answered at once: it holds the kernel's lock of the root
    /// directory, for which the switch may have to wait.
    fn begin_switch(&self, switch: &Arc<Switch>, value: &[u8], reply: ReplyEmpty) {
        let Ok(request) = serde_json::from_slice::<SwitchRequest>(value) else {
            return reply.error(Errno::EINVAL);
        };
        let (pages, fs) = (Arc::clone(&self.pages), Arc::clone(&self.fs));
        match switch.begin(request, Arc::new(move |stale| pages.forget(&fs, stale))) {
            true => reply.ok(),
            false => reply.error(Errno::EBUSY),
        }
    }

    /// Passes a command to the stack; may take long.
    pub(super) fn command(&self, lot: &Lot, about: About, command: Command, reply: ReplyEmpty) {
        if let (Command::Switch(value), Some(switch)) = (&command, &self.switch) {
            return self.begin_switch(switch, value, reply);
        }
        let slot = Slot::default();
        let answered = Arc::clone(&slot);
        let call = call(about, reply, answers::empty, move |_| {
            // No server took it: this is no fault of the mount.
            Ok(take(&answered).map(drop).ok_or(sys::Errno::HOSTUNREACH)?)
        });
        let control = Arc::clone(&self.fs.lower().control);
        lot.park_until(about, call, |then| -> Box<dyn Pending> {
            control.command(command, fill(&slot, then))
        });
    }
}
