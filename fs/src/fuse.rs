//! The FUSE adapter: translates requests and answers, decides nothing.
//!
//! The only module that uses the fuser crate. Each request runs inside a guard: a panic in our code
//! answers EIO (fuser does when a reply is dropped) and the mount survives.

mod adapter;
mod answers;
mod convert;
mod copy_job;
mod handles;
mod inode_flags;
pub(crate) mod limit;
mod linger;
mod parked;
mod passthrough;
mod questions;
mod reads;
mod root_attributes;
mod root_stat;
pub(crate) mod session;
mod settle;
pub(crate) mod store;
mod watch;
mod workers;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

pub(crate) use self::adapter::Adapter;
use self::adapter::{FOREVER, about, caller, kept, unprivileged};
use self::answers::RequestContext;
use crate::filesystem::Make;
use crate::filesystem::reply::{Changes, ROOT_ID};
use crate::metrics::Operation;
use crate::status::STATUS_XATTR;
use crate::sys;

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        self.negotiate(config);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.as_bytes();
        let work = |asked: &RequestContext<'_>| self.look_up(asked, name, reply);
        self.serve(Operation::Lookup, parent, work);
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.guard(Operation::Forget, || self.fs.forget(ino.0, nlookup));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.serve(Operation::Getattr, ino, |asked| {
            asked.attr(reply, self.fs.getattr(ino.0))
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changes = Changes {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(convert::new_time),
            mtime: mtime.map(convert::new_time),
        };
        let (about, caller) = (about(req, ino, Operation::Setattr), caller(req));
        self.guard(Operation::Setattr, || {
            let set = self.fs.setattr(ino.0, &changes, caller);
            self.settle(about, reply, answers::attr, set, || {
                Box::new(move |fs| fs.setattr(ino.0, &changes, caller))
            });
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        self.serve(Operation::Readlink, ino, |asked| {
            asked.data(reply, self.fs.readlink(ino.0));
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let make = Make::Node {
            mode,
            umask,
            rdev: sys::decode_device(rdev),
        };
        self.serve(Operation::Make, parent, |asked| {
            let made = self.fs.make(parent.0, name.as_bytes(), &make, caller(req));
            asked.entry(reply, made.map(Some));
        });
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mode = crate::filesystem::reply::DIRECTORY | (mode & 0o7777);
        let make = Make::Node {
            mode,
            umask,
            rdev: (0, 0),
        };
        self.serve(Operation::Make, parent, |asked| {
            let made = self.fs.make(parent.0, name.as_bytes(), &make, caller(req));
            asked.entry(reply, made.map(Some));
        });
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let make = Make::Symlink {
            target: target.as_os_str().as_bytes(),
        };
        self.serve(Operation::Make, parent, |asked| {
            let name = link_name.as_bytes();
            let made = self.fs.make(parent.0, name, &make, caller(req));
            asked.entry(reply, made.map(Some));
        });
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve(Operation::Unlink, parent, |asked| {
            asked.empty(reply, self.fs.unlink(parent.0, name.as_bytes()));
        });
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve(Operation::Rmdir, parent, |asked| {
            asked.empty(reply, self.fs.rmdir(parent.0, name.as_bytes()));
        });
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        self.serve(Operation::Rename, parent, |asked| {
            let (from, to) = (
                (parent.0, name.as_bytes()),
                (newparent.0, newname.as_bytes()),
            );
            asked.empty(reply, self.fs.rename(from, to, flags));
        });
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        self.serve(Operation::Link, newparent, |asked| {
            let linked = self.fs.link(ino.0, newparent.0, newname.as_bytes());
            asked.entry(reply, linked.map(Some));
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.guard(Operation::Open, || {
            self.open_file(about(req, ino, Operation::Open), flags, caller(req), reply);
        });
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.guard(Operation::Release, || {
            self.release_file(ino.0, fh, flags.acc_mode());
            reply.ok();
        });
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.guard(Operation::Open, || reply.error(Errno::ENOSYS));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.guard(Operation::Create, || {
            let make = Make::Node {
                mode,
                umask,
                rdev: (0, 0),
            };
            self.create_file(parent.0, name.as_bytes(), &make, caller(req), reply);
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.read_file(about(req, ino, Operation::Read), offset, size, reply);
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let about = about(req, ino, Operation::Write);
        let drops_rights = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let unprivileged = drops_rights.then(|| caller(req));
        self.guard(Operation::Write, || {
            let written = self.fs.write(ino.0, offset, data, unprivileged);
            self.settle(about, reply, answers::written, written, || {
                let data = data.to_vec();
                Box::new(move |fs| fs.write(ino.0, offset, &data, unprivileged))
            });
        });
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.serve(Operation::Fsync, ino, |asked| {
            let synced = self.fs.fsync(ino.0, datasync);
            if self.opens.is_some() {
                self.pages.forget_attributes(ino.0);
            }
            asked.empty(reply, synced);
        });
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.serve(Operation::Fsync, ino, |asked| {
            asked.empty(reply, self.fs.fsync(ino.0, datasync))
        });
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.serve(Operation::Readdir, ino, |asked| {
            let listed = self.fs.readdir(ino.0, offset, false, &mut |item| {
                let (ino, name) = (INodeNo(item.ino), OsStr::from_bytes(item.name));
                !reply.add(ino, item.cookie, convert::file_type(item.kind), name)
            });
            match asked.known(listed) {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.serve(Operation::Readdir, ino, |asked| {
            let listed = self.fs.readdir(ino.0, offset, true, &mut |item| {
                let attr = convert::listed(item);
                let (ino, name) = (INodeNo(item.ino), OsStr::from_bytes(item.name));
                let ttl = item.attr.as_ref().map_or(&FOREVER, kept);
                let generation = convert::generation(item);
                !reply.add(ino, item.cookie, name, ttl, &attr, generation)
            });
            match asked.known(listed) {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.serve(Operation::Statfs, ino, |asked| {
            asked.space(reply, self.fs.statfs());
        });
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let Some(reply) = self.set_by_root(req, ino, name, value, reply) else {
            return;
        };
        self.serve(Operation::Setxattr, ino, |asked| {
            let flags = flags.cast_unsigned();
            let set = self
                .fs
                .setxattr(ino.0, name.as_bytes(), value, flags, caller(req));
            asked.empty(reply, set);
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let Some(reply) = self.read_by_root(req, ino, name, size, reply) else {
            return;
        };
        self.serve(Operation::Getxattr, ino, |asked| {
            let name = name.as_bytes();
            let value = if ino.0 == ROOT_ID && name == STATUS_XATTR {
                self.status()
            } else {
                self.fs.getxattr(ino.0, name)
            };
            asked.value(reply, size, value);
        });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.serve(Operation::Getxattr, ino, |asked| {
            asked.value(reply, size, self.fs.listxattr(ino.0, caller(req)));
        });
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve(Operation::Setxattr, ino, |asked| {
            asked.empty(reply, self.fs.removexattr(ino.0, name.as_bytes()));
        });
    }

    fn ioctl(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        self.serve(Operation::Ioctl, ino, |asked| {
            self.inode_flags(asked, cmd, in_data, reply);
        });
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (at, mode) = (offset..offset.saturating_add(length), mode.cast_unsigned());
        let about = about(req, ino, Operation::Fallocate);
        self.allocate(about, at, mode, unprivileged(req), reply);
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.serve(Operation::Seek, ino, |asked| {
            let wanted = convert::data_or_hole(offset, whence);
            let found = wanted.and_then(|(at, hole)| self.fs.seek(ino.0, at, hole));
            let fits = |at| i64::try_from(at).map_err(|_| sys::Errno::OVERFLOW.into());
            match asked.known(found.and_then(fits)) {
                Ok(at) => reply.offset(at),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((ino_in.0, offset_in), offset_out);
        let about = about(req, ino_out, Operation::CopyRange);
        self.copy_range(about, from, to, len, unprivileged(req), reply);
    }
}
