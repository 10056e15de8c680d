//! Answers requests that may need remote data, and parks them if they do.

use std::sync::Arc;

use fuser::{ReplyAttr, ReplyEmpty, ReplyWrite};

use super::Adapter;
use super::answers::{self, ReplyResult};
use super::parked::{About, call};
use crate::filesystem::reply::{Caller, Changes, NodeId};
use crate::filesystem::{LayerFs, Stop};
use crate::metrics::Operation;

/// A parked request, called again for each attempt.
pub(super) type Again<T> = Box<dyn FnMut(&LayerFs) -> Result<T, Stop> + Send>;

impl Adapter {
    /// Answers a request, or parks it: `again` creates the retried work.
    pub(super) fn settle<R: Send + 'static, T: 'static>(
        &self,
        about: About,
        reply: R,
        answer: impl Fn(R, ReplyResult<T>) + Send + 'static,
        done: Result<T, Stop>,
        again: impl FnOnce() -> Again<T>,
    ) {
        let failed = match (done, &self.lot) {
            (Ok(done), lot) => {
                answer(reply, Ok(done));
                if let Some(lot) = lot {
                    lot.look_again(about.node);
                }
                return;
            }
            (Err(Stop::Far(far)), Some(lot)) => {
                return lot.park(about, call(about, reply, answer, again()), far);
            }
            (Err(stop), _) => stop.failed(),
        };
        answer(reply, Err(about.asked(&self.fs).refuse(&failed)));
    }

    /// Answers a SETATTR request.
    pub(super) fn set_attributes(
        &self,
        about: About,
        changes: Changes,
        caller: Caller,
        reply: ReplyAttr,
    ) {
        self.guard(Operation::Setattr, || {
            let id = about.node;
            let set = self.fs.setattr(id, &changes, caller);
            self.settle(about, reply, answers::attr, set, || {
                Box::new(move |fs| fs.setattr(id, &changes, caller))
            });
        });
    }

    /// Answers a WRITE request.
    pub(super) fn write_file(
        &self,
        about: About,
        offset: u64,
        data: &[u8],
        unprivileged: Option<Caller>,
        reply: ReplyWrite,
    ) {
        self.guard(Operation::Write, || {
            let id = about.node;
            let written = self.fs.write(id, offset, data, unprivileged);
            self.settle(about, reply, answers::written, written, || {
                let data = data.to_vec();
                Box::new(move |fs| fs.write(id, offset, &data, unprivileged))
            });
        });
    }

    /// Answers a FALLOCATE request.
    pub(super) fn allocate(
        &self,
        about: About,
        at: std::ops::Range<u64>,
        mode: u32,
        unprivileged: Option<Caller>,
        reply: ReplyEmpty,
    ) {
        self.guard(Operation::Fallocate, || {
            let (id, len) = (about.node, at.end - at.start);
            let work = move |fs: &LayerFs| fs.fallocate(id, at.start, len, mode, unprivileged);
            let done = work(&self.fs);
            self.settle(about, reply, answers::empty, done, || Box::new(work));
        });
    }

    /// Answers a COPY_FILE_RANGE request.
    pub(super) fn copy_range(
        &self,
        about: About,
        from: (NodeId, u64),
        to: u64,
        len: u64,
        unprivileged: Option<Caller>,
        reply: ReplyWrite,
    ) {
        self.guard(Operation::CopyRange, || {
            let to = (about.node, to);
            let work = move |fs: &LayerFs| fs.copy_range(from, to, len, unprivileged);
            let copied = work(&self.fs);
            let pages = Arc::clone(&self.pages);
            let answer = move |reply, copied| {
                // The source was read, which the kernel does not see.
                pages.forget_attributes(from.0);
                answers::written(reply, copied);
            };
            self.settle(about, reply, answer, copied, || Box::new(work));
        });
    }
}
