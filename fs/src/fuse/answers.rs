//! Answers: a result becomes a reply. A failure passes [`LayerFs::refuse`], which logs a fault.

use fuser::{
    Errno, Generation, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyStatfs,
    ReplyWrite, ReplyXattr,
};

use super::adapter::{FOREVER, kept};
use super::convert;
use crate::error::{Error, Result};
use crate::filesystem::LayerFs;
use crate::filesystem::reply::{Attr, NodeId, Space};
use crate::metrics::Operation;
use crate::sys;

/// A request that is about to be answered.
pub(super) struct RequestContext<'a> {
    pub(super) fs: &'a LayerFs,
    pub(super) operation: Operation,
    pub(super) node: NodeId,
}

/// A result with the errno of the reply.
pub(super) type ReplyResult<T> = std::result::Result<T, Errno>;

impl RequestContext<'_> {
    /// The errno of the reply.
    pub(super) fn refuse(&self, error: &Error) -> Errno {
        convert::errno(self.fs.refuse(self.operation, self.node, error))
    }

    pub(super) fn known<T>(&self, result: Result<T>) -> ReplyResult<T> {
        result.map_err(|error| self.refuse(&error))
    }

    pub(super) fn entry(&self, reply: ReplyEntry, result: Result<Option<Attr>>) {
        match result {
            Ok(Some(attr)) => {
                let converted = convert::attr(&attr);
                let generation = Generation(attr.generation.into());
                reply.entry_with_ttls(kept(&attr), &FOREVER, &converted, generation);
            }
            Ok(None) => {
                reply.entry_with_ttls(&FOREVER, &FOREVER, &convert::no_entry(), Generation(0))
            }
            Err(error) => reply.error(self.refuse(&error)),
        }
    }

    pub(super) fn empty(&self, reply: ReplyEmpty, result: Result<()>) {
        empty(reply, self.known(result));
    }

    pub(super) fn attr(&self, reply: ReplyAttr, result: Result<Attr>) {
        attr(reply, self.known(result));
    }

    pub(super) fn value(&self, reply: ReplyXattr, size: u32, result: Result<Vec<u8>>) {
        value(reply, size, self.known(result));
    }

    pub(super) fn space(&self, reply: ReplyStatfs, result: Result<Space>) {
        match self.known(result) {
            Ok(space) => reply.statfs(
                space.blocks,
                space.free,
                space.available,
                space.files,
                space.files_free,
                space.block_len,
                space.name_len_max,
                space.fragment_len,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    pub(super) fn position(&self, reply: ReplyLseek, result: Result<u64>) {
        let fits = |at| i64::try_from(at).map_err(|_| sys::Errno::OVERFLOW.into());
        match self.known(result.and_then(fits)) {
            Ok(at) => reply.offset(at),
            Err(errno) => reply.error(errno),
        }
    }

    pub(super) fn data(&self, reply: ReplyData, result: Result<Vec<u8>>) {
        match self.known(result) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }
}

pub(super) fn empty(reply: ReplyEmpty, result: ReplyResult<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

pub(super) fn attr(reply: ReplyAttr, result: ReplyResult<Attr>) {
    match result {
        Ok(attr) => reply.attr(kept(&attr), &convert::attr(&attr)),
        Err(errno) => reply.error(errno),
    }
}

pub(super) fn written(reply: ReplyWrite, result: ReplyResult<usize>) {
    match result {
        Ok(count) => reply.written(u32::try_from(count).unwrap_or(u32::MAX)),
        Err(errno) => reply.error(errno),
    }
}

pub(super) fn data(reply: ReplyData, done: ReplyResult<()>, data: &[u8]) {
    match done {
        Ok(()) => reply.data(data),
        Err(errno) => reply.error(errno),
    }
}

pub(super) fn value(reply: ReplyXattr, size: u32, result: ReplyResult<Vec<u8>>) {
    match result {
        Ok(value) => match u32::try_from(value.len()) {
            Ok(len) if size == 0 => reply.size(len),
            Ok(len) if len <= size => reply.data(&value),
            _ => reply.error(Errno::ERANGE),
        },
        Err(errno) => reply.error(errno),
    }
}
