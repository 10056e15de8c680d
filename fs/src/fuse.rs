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
mod later;
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
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

pub(crate) use self::adapter::Adapter;
use self::adapter::{about, caller, unprivileged};
use self::answers::RequestContext;
pub(crate) use self::later::Mounted;
use crate::filesystem::reply::Changes;
use crate::filesystem::{Make, Rows};
use crate::metrics::Operation;
use crate::sys;

impl Filesystem for Mounted {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        if let Some(adapter) = self.alone() {
            adapter.negotiate(config);
        }
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (rows, name) = (Rows::Name(parent.0, name.as_bytes()), [name.as_bytes()]);
        let about = about(req, parent, Operation::Lookup);
        self.once(about, rows)
            .run(name, reply, move |adapter, [name], reply| {
                let work = |asked: &RequestContext<'_>| adapter.look_up(asked, name, reply);
                adapter.serve(Operation::Lookup, parent, work);
            });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.guard(Operation::Forget, || self.fs.forget(ino.0, nlookup));
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let about = about(req, ino, Operation::Getattr);
        self.once(about, Rows::Attributes(ino.0))
            .serve([], reply, |asked, [], reply| {
                asked.attr(reply, asked.fs.getattr(asked.node));
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
        self.once(about, Rows::All)
            .run([], reply, move |adapter, [], reply| {
                adapter.set_attributes(about, changes, caller, reply);
            });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let about = about(req, ino, Operation::Readlink);
        self.once(about, Rows::Node(ino.0))
            .serve([], reply, |asked, [], reply| {
                asked.data(reply, asked.fs.readlink(asked.node));
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
        self.make_node(req, parent, name, make, reply);
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
        self.make_node(req, parent, name, make, reply);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        self.make_link(req, parent, link_name, target, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (about, name) = (about(req, parent, Operation::Unlink), [name.as_bytes()]);
        self.once(about, Rows::All)
            .serve(name, reply, |asked, [name], reply| {
                asked.empty(reply, asked.fs.unlink(asked.node, name));
            });
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (about, name) = (about(req, parent, Operation::Rmdir), [name.as_bytes()]);
        self.once(about, Rows::All)
            .serve(name, reply, |asked, [name], reply| {
                asked.empty(reply, asked.fs.rmdir(asked.node, name));
            });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let about = about(req, parent, Operation::Rename);
        self.move_name(about, [name, newname], newparent, flags, reply);
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let (about, name) = (about(req, newparent, Operation::Link), [newname.as_bytes()]);
        self.once(about, Rows::All)
            .serve(name, reply, move |asked, [name], reply| {
                let linked = asked.fs.link(ino.0, asked.node, name);
                asked.entry(reply, linked.map(Some));
            });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (about, caller) = (about(req, ino, Operation::Open), caller(req));
        let reads = flags.acc_mode() == OpenAccMode::O_RDONLY && flags.0 & libc::O_TRUNC == 0;
        let rows = if reads { Rows::Node(ino.0) } else { Rows::All };
        self.once(about, rows)
            .run([], reply, move |adapter, [], reply| {
                adapter.open_file(about, flags, caller, reply);
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
        let (about, caller) = (about(req, parent, Operation::Create), caller(req));
        let (name, rdev) = ([name.as_bytes()], (0, 0));
        self.once(about, Rows::All)
            .run(name, reply, move |adapter, [name], reply| {
                let make = Make::Node { mode, umask, rdev };
                adapter.create_file(parent.0, name, &make, caller, reply);
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
        let about = about(req, ino, Operation::Read);
        self.once(about, Rows::Node(ino.0))
            .run([], reply, move |adapter, [], reply| {
                adapter.read_file(about, offset, size, reply);
            });
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
        self.once(about, Rows::All)
            .run([data], reply, move |adapter, [data], reply| {
                adapter.write_file(about, offset, data, unprivileged, reply);
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
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let about = about(req, ino, Operation::Readdir);
        self.once(about, Rows::Node(ino.0))
            .run([], reply, move |adapter, [], reply| {
                adapter.list(ino, offset, reply);
            });
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let about = about(req, ino, Operation::Readdir);
        self.once(about, Rows::Node(ino.0))
            .run([], reply, move |adapter, [], reply| {
                adapter.list_plus(ino, offset, reply);
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
        let (about, caller) = (about(req, ino, Operation::Setxattr), caller(req));
        let (texts, flags) = ([name.as_bytes(), value], flags.cast_unsigned());
        self.once(about, Rows::All)
            .serve(texts, reply, move |asked, [name, value], reply| {
                let set = asked.fs.setxattr(asked.node, name, value, flags, caller);
                asked.empty(reply, set);
            });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let Some(reply) = self.read_by_root(req, ino, name, size, reply) else {
            return;
        };
        let about = about(req, ino, Operation::Getxattr);
        let (rows, name) = (Rows::Attributes(ino.0), [name.as_bytes()]);
        self.once(about, rows)
            .run(name, reply, move |adapter, [name], reply| {
                adapter.get_attribute(about, name, size, reply);
            });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let (about, caller) = (about(req, ino, Operation::Getxattr), caller(req));
        let rows = Rows::Attributes(ino.0);
        self.once(about, rows)
            .serve([], reply, move |asked, [], reply| {
                asked.value(reply, size, asked.fs.listxattr(asked.node, caller));
            });
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (about, name) = (about(req, ino, Operation::Setxattr), [name.as_bytes()]);
        self.once(about, Rows::All)
            .serve(name, reply, |asked, [name], reply| {
                asked.empty(reply, asked.fs.removexattr(asked.node, name));
            });
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let about = about(req, ino, Operation::Ioctl);
        self.once(about, Rows::All)
            .run([in_data], reply, move |adapter, [data], reply| {
                adapter.serve(Operation::Ioctl, ino, |asked| {
                    adapter.inode_flags(asked, cmd, data, reply);
                });
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
        let (about, caller) = (about(req, ino, Operation::Fallocate), unprivileged(req));
        self.once(about, Rows::All)
            .run([], reply, move |adapter, [], reply| {
                adapter.allocate(about, at, mode, caller, reply);
            });
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let about = about(req, ino, Operation::Seek);
        self.once(about, Rows::Node(ino.0))
            .serve([], reply, move |asked, [], reply| {
                let wanted = convert::data_or_hole(offset, whence);
                let found = wanted.and_then(|(at, hole)| asked.fs.seek(asked.node, at, hole));
                asked.position(reply, found);
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
        let (about, caller) = (about(req, ino_out, Operation::CopyRange), unprivileged(req));
        self.once(about, Rows::All)
            .run([], reply, move |adapter, [], reply| {
                adapter.copy_range(about, from, to, len, caller, reply);
            });
    }
}
