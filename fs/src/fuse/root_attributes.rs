//! Requests of root to the daemon through attributes of the mount's root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use fuser::{INodeNo, ReplyEmpty, ReplyXattr, Request};

use super::Adapter;
use super::adapter::{about, caller};
use super::parked::About;
use crate::control::{Command, Question};
use crate::filesystem::reply::ROOT_ID;
use crate::metrics::Operation;
use crate::options::ACCESS_TIMES_XATTR;
use crate::status::STATUS_XATTR;

impl Adapter {
    /// Handles a value that root sets as attribute `name` of `ino`; returns the reply if the
    /// attribute is not ours.
    pub(super) fn set_by_root(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        reply: ReplyEmpty,
    ) -> Option<ReplyEmpty> {
        let times = ino.0 == ROOT_ID && name.as_bytes() == ACCESS_TIMES_XATTR;
        if times && caller(req).is_root() {
            self.serve(Operation::Setxattr, ino, |asked| {
                asked.empty(reply, self.keep_access_times(value));
            });
            return None;
        }
        let command = Command::parse(name.as_bytes(), value);
        let Some((lot, command)) = self.control_lot(req, ino).zip(command) else {
            return Some(reply);
        };
        self.command(lot, about(req, ino, Operation::Setxattr), command, reply);
        None
    }

    /// Answers root's read of attribute `name` of `ino`; returns the reply if the attribute is not
    /// ours.
    pub(super) fn read_by_root(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) -> Option<ReplyXattr> {
        let question = Question::parse(name.as_bytes());
        let Some((lot, question)) = self.control_lot(req, ino).zip(question) else {
            return Some(reply);
        };
        self.ask(
            lot,
            about(req, ino, Operation::Getxattr),
            question,
            size,
            reply,
        );
        None
    }

    /// Answers GETXATTR; the status is an attribute of the root.
    pub(super) fn get_attribute(&self, about: About, name: &[u8], size: u32, reply: ReplyXattr) {
        let id = about.node;
        self.serve(Operation::Getxattr, INodeNo(id), |asked| {
            let value = if id == ROOT_ID && name == STATUS_XATTR {
                self.status()
            } else {
                self.fs.getxattr(id, name)
            };
            asked.value(reply, size, value);
        });
    }
}
