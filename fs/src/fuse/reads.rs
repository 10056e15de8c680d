//! Reads. Those that may fetch or decode data of a remote root run on other threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fuser::ReplyData;

use super::Adapter;
use super::answers::{self, ReplyResult, RequestContext};
use super::parked::{About, Call};
use crate::filesystem::reply::NodeId;
use crate::filesystem::{Far, Stop};
use crate::lower::chunks::Early;
use crate::metrics::Operation;

/// The reply to a read, which may be sent before the read is over.
struct EarlyReply(Option<ReplyData>);

impl EarlyReply {
    /// Sends all bytes while the rest of their chunk is still to be decoded; lets the reader run.
    fn early(&mut self, bytes: &[u8]) {
        if let Some(reply) = self.0.take() {
            reply.data(bytes);
            rustix::thread::sched_yield();
        }
    }

    /// Sends the result unless the bytes were sent.
    fn answer(&mut self, done: ReplyResult<()>, data: &[u8]) {
        if let Some(reply) = self.0.take() {
            answers::data(reply, done, data);
        }
    }

    /// True if nothing was sent.
    fn is_due(&self) -> bool {
        self.0.is_some()
    }
}

impl Adapter {
    /// Answers READ; a read that may have to fetch or decode data runs on another thread.
    pub(super) fn read_file(&self, about: About, offset: u64, size: u32, reply: ReplyData) {
        let (id, size) = (about.node, size as usize);
        let Some(lot) = &self.lot else {
            return self.guard(Operation::Read, || {
                self.buffers.with(|data| {
                    let mut reply = EarlyReply(Some(reply));
                    let early: Early<'_> = &mut |bytes| reply.early(bytes);
                    let done = self.fs.read_early(id, offset, size, data, Some(early));
                    let done = self
                        .asked(Operation::Read, id)
                        .known(done.map_err(Stop::failed));
                    reply.answer(done, data);
                });
            });
        };
        let mut reply = Some(reply);
        let answered = catch_unwind(AssertUnwindSafe(|| {
            self.buffers.with(|data| {
                let done = match self.fs.read_if_decoded(id, offset, size, data) {
                    Ok(false) => return None,
                    done => done.map(drop),
                };
                let done = self.asked(Operation::Read, id).known(done);
                reply
                    .take()
                    .into_iter()
                    .for_each(|reply| answers::data(reply, done, data));
                Some(())
            })
        }));
        let about = About {
            is_counted_later: true,
            ..about
        };
        match (answered, reply) {
            (Ok(None), Some(reply)) => {
                let call = self.read_call(id, offset, size, reply);
                match self.fs.far_chunks(id, offset, size) {
                    Some(far) => lot.park(about, call, Far::Chunks(far)),
                    None => lot.run(about, call),
                }
            }
            (Ok(_), _) => self.requests.add(Operation::Read, about.since.elapsed()),
            (Err(_), _) => self.log_fault(Operation::Read),
        }
    }

    fn read_call(&self, id: NodeId, offset: u64, size: usize, reply: ReplyData) -> Call {
        let buffers = Arc::clone(&self.buffers);
        let mut reply = EarlyReply(Some(reply));
        Box::new(move |fs, turn| {
            buffers.with(|data| {
                let early: Early<'_> = &mut |bytes| reply.early(bytes);
                let done = match turn.refused {
                    Some(error) => Err(error),
                    None => match fs.read_early(id, offset, size, data, Some(early)) {
                        Ok(()) => Ok(()),
                        Err(Stop::Far(far)) => return Some(far).filter(|_| reply.is_due()),
                        Err(Stop::Failed(error)) => Err(error),
                    },
                };
                let asked = RequestContext {
                    fs,
                    operation: Operation::Read,
                    node: id,
                };
                reply.answer(asked.known(done), data);
                None
            })
        })
    }
}
