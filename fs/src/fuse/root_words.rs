//! What root tells and asks the daemon through attributes of the mount's root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use fuser::{INodeNo, ReplyEmpty, ReplyXattr, Request};

use super::Adapter;
use crate::fetch::BOOT_REPORT;
use crate::filesystem::reply::ROOT_ID;
use crate::metrics::Operation;
use crate::options::ACCESS_TIMES_XATTR;
use crate::sys;

impl Adapter {
    /// Take what root tells by setting attribute `name` of `ino`; the reply comes back if that is nothing of ours.
    pub(super) fn told_by_root(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        reply: ReplyEmpty,
    ) -> Option<ReplyEmpty> {
        if ino.0 == ROOT_ID && req.uid() == 0 && name.as_bytes() == ACCESS_TIMES_XATTR {
            self.guard(Operation::Setxattr, || {
                Self::empty(reply, self.keep_access_times(value));
            });
            return None;
        }
        let Some((workers, told)) = self.question(req, ino, name) else {
            return Some(reply);
        };
        if told != BOOT_REPORT {
            return Some(reply);
        }
        let (fs, value) = (Arc::clone(&self.fs), value.to_vec());
        workers.run(Box::new(move || {
            let taken = fs.lower.chunks.tell(&told, &value);
            Self::empty(reply, taken.then_some(()).ok_or(sys::Errno::IO));
        }));
        None
    }

    /// Answer what root asks by reading attribute `name` of `ino`; the reply comes back if that is nothing of ours.
    pub(super) fn asked_by_root(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) -> Option<ReplyXattr> {
        let Some((workers, question)) = self.question(req, ino, name) else {
            return Some(reply);
        };
        let (fs, pages) = (Arc::clone(&self.fs), Arc::clone(&self.pages));
        workers.run(Box::new(move || {
            Self::value(reply, size, Self::answer(&fs, &pages, &question));
        }));
        None
    }
}
