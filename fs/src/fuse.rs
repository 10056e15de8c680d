//! The FUSE adapter: translates requests and answers, decides nothing.
//!
//! The one module that knows the fuser crate. Each request runs inside a guard: a fault in our
//! code answers EIO (fuser does when a reply is dropped) and the mount lives on.

mod convert;
mod passthrough;
mod workers;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use self::passthrough::{CACHED, OpenTable, PASSED};
use self::workers::Workers;
use crate::fetch::QUESTION_PREFIX;
use crate::filesystem::reply::{Attr, Caller, Changes, ROOT_ID};
use crate::filesystem::{LayerFs, Make};
use crate::metrics::{Operation, Requests};
use crate::status::{Fixed, STATUS_XATTR};
use crate::sys;

/// How long the kernel may remember: nothing changes behind its back.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Largest read and write, bytes.
const TRANSFER_LEN_MAX: u32 = 1 << 20;
/// Requests the kernel may have under way without waiting.
const BACKGROUND_MAX: u16 = 64;
/// How a file is opened through us: the page cache stays, no flush is sent.
const KEEP: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);
/// Threads for reads that may have to wait for the network.
const SLOW_READERS: usize = 16;

/// A mounted [`LayerFs`].
pub struct Adapter {
    fs: Arc<LayerFs>,
    requests: Arc<Requests>,
    fixed: Fixed,
    workers: Option<Workers>,
    /// Open files, in the passthrough mode.
    opens: Option<OpenTable>,
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter")
            .field("fixed", &self.fixed)
            .finish_non_exhaustive()
    }
}

impl Adapter {
    /// An adapter for `fs`.
    pub fn new(fs: Arc<LayerFs>, fixed: Fixed) -> Adapter {
        let workers = fs
            .lower
            .chunks
            .is_slow()
            .then(|| Workers::new(SLOW_READERS));
        Adapter {
            fs,
            requests: Arc::new(Requests::default()),
            fixed,
            workers,
            opens: None,
        }
    }

    /// Let the kernel read and write files of the upper itself, if it can.
    #[must_use]
    pub fn with_passthrough(mut self, wanted: bool) -> Adapter {
        self.opens = (wanted && self.fs.is_writable()).then(OpenTable::default);
        self
    }

    fn guard(&self, operation: Operation, work: impl FnOnce()) {
        let began = Instant::now();
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.requests.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(?operation, "a request met a fault in layerfs: it gets EIO");
        }
        self.requests.add(operation, began.elapsed());
    }

    fn entry(reply: ReplyEntry, result: sys::Result<Option<Attr>>) {
        match result {
            Ok(Some(attr)) => reply.entry(&FOREVER, &convert::attr(&attr), Generation(0)),
            Ok(None) => {
                reply.entry_with_ttls(&FOREVER, &FOREVER, &convert::no_entry(), Generation(0))
            }
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn empty(reply: ReplyEmpty, result: sys::Result<()>) {
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn attr(reply: ReplyAttr, result: sys::Result<Attr>) {
        match result {
            Ok(attr) => reply.attr(&FOREVER, &convert::attr(&attr)),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn value(reply: ReplyXattr, size: u32, result: sys::Result<Vec<u8>>) {
        match result {
            Ok(value) => match u32::try_from(value.len()) {
                Ok(len) if size == 0 => reply.size(len),
                Ok(len) if len <= size => reply.data(&value),
                _ => reply.error(Errno::ERANGE),
            },
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn status(&self) -> sys::Result<Vec<u8>> {
        let status = crate::status::gather(&self.fs, &self.requests, &self.fixed);
        serde_json::to_vec(&status).map_err(|_| sys::Errno::IO)
    }
}

fn caller(req: &Request) -> Caller {
    Caller {
        uid: req.uid(),
        gid: req.gid(),
    }
}

fn wished() -> [InitFlags; 10] {
    [
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_READDIRPLUS_AUTO,
        InitFlags::FUSE_NO_OPENDIR_SUPPORT,
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_POSIX_ACL,
        InitFlags::FUSE_DONT_MASK,
        InitFlags::FUSE_CACHE_SYMLINKS,
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        InitFlags::FUSE_ASYNC_DIO,
    ]
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for flag in wished() {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!(?flag, "this kernel does not have it");
            }
        }
        if self.opens.is_some() {
            let able = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
            if !able || config.set_max_stack_depth(1).is_err() {
                tracing::warn!("this kernel has no passthrough: files go through layerfs");
                self.opens = None;
                self.fixed.mode = "default";
            }
        }
        if self.opens.is_none() {
            let _ = config.add_capabilities(InitFlags::FUSE_NO_OPEN_SUPPORT);
        }
        let _ = config.set_max_write(TRANSFER_LEN_MAX);
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.guard(Operation::Lookup, || {
            Self::entry(reply, self.fs.lookup(parent.0, name.as_bytes()));
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.fs.forget(ino.0, nlookup)));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.guard(Operation::Getattr, || {
            Self::attr(reply, self.fs.getattr(ino.0))
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
        self.guard(Operation::Setattr, || {
            Self::attr(reply, self.fs.setattr(ino.0, &changes, req.uid()));
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        self.guard(Operation::Readlink, || match self.fs.readlink(ino.0) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(convert::errno(errno)),
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
        self.guard(Operation::Make, || {
            let made = self.fs.make(parent.0, name.as_bytes(), &make, caller(req));
            Self::entry(reply, made.map(Some));
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
        self.guard(Operation::Make, || {
            let made = self.fs.make(parent.0, name.as_bytes(), &make, caller(req));
            Self::entry(reply, made.map(Some));
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
        self.guard(Operation::Make, || {
            let made = self
                .fs
                .make(parent.0, link_name.as_bytes(), &make, caller(req));
            Self::entry(reply, made.map(Some));
        });
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard(Operation::Unlink, || {
            Self::empty(reply, self.fs.unlink(parent.0, name.as_bytes()));
        });
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard(Operation::Rmdir, || {
            Self::empty(reply, self.fs.rmdir(parent.0, name.as_bytes()));
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
        self.guard(Operation::Rename, || {
            let (from, to) = (
                (parent.0, name.as_bytes()),
                (newparent.0, newname.as_bytes()),
            );
            Self::empty(reply, self.fs.rename(from, to, flags));
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
        self.guard(Operation::Link, || {
            let linked = self.fs.link(ino.0, newparent.0, newname.as_bytes());
            Self::entry(reply, linked.map(Some));
        });
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.guard(Operation::Open, || {
            // The kernel then never asks again, and opens without us.
            let Some(opens) = &self.opens else { return reply.error(Errno::ENOSYS) };
            let file = match flags.acc_mode() {
                OpenAccMode::O_RDONLY => self.fs.upper_data(ino.0),
                _ => self.fs.writable(ino.0).map(Some),
            };
            match file {
                Ok(file) => match opens.open(ino.0, file, |file| reply.open_backing(file)) {
                    Some(backing) => {
                        reply.opened_passthrough(PASSED, FopenFlags::empty(), &backing);
                    }
                    None => reply.opened(CACHED, KEEP),
                },
                Err(errno) => reply.error(convert::errno(errno)),
            }
        });
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.guard(Operation::Release, || {
            if let Some(opens) = &self.opens {
                opens.release(ino.0, fh);
            }
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
            // MKNOD and an open without us are one message less.
            let Some(opens) = &self.opens else { return reply.error(Errno::ENOSYS) };
            let make = Make::Node { mode, umask, rdev: (0, 0) };
            let made = self.fs.make(parent.0, name.as_bytes(), &make, caller(req)).and_then(|attr| {
                let file = self.fs.writable(attr.ino)?;
                Ok((attr, file))
            });
            let (attr, file) = match made {
                Ok(made) => made,
                Err(errno) => return reply.error(convert::errno(errno)),
            };
            let (told, generation) = (convert::attr(&attr), Generation(0));
            match opens.open(attr.ino, Some(file), |file| reply.open_backing(file)) {
                Some(backing) => reply.created_passthrough(
                    &FOREVER,
                    &told,
                    generation,
                    PASSED,
                    FopenFlags::empty(),
                    &backing,
                ),
                None => reply.created(&FOREVER, &told, generation, CACHED, KEEP),
            }
        });
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let answer = move |fs: &LayerFs| match fs.read(ino.0, offset, size as usize) {
            Ok(data) => reply.data(&data),
            Err(errno) => reply.error(convert::errno(errno)),
        };
        match &self.workers {
            Some(workers) if self.fs.reads_lower(ino.0) => {
                let fs = Arc::clone(&self.fs);
                let requests = Arc::clone(&self.requests);
                let began = Instant::now();
                workers.run(Box::new(move || {
                    answer(&fs);
                    requests.add(Operation::Read, began.elapsed());
                }));
            }
            _ => self.guard(Operation::Read, || answer(&self.fs)),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let drop_privileges = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        self.guard(Operation::Write, || {
            match self.fs.write(ino.0, offset, data, drop_privileges) {
                Ok(count) => reply.written(u32::try_from(count).unwrap_or(u32::MAX)),
                Err(errno) => reply.error(convert::errno(errno)),
            }
        });
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.guard(Operation::Fsync, || {
            Self::empty(reply, self.fs.fsync(ino.0, datasync))
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
        self.guard(Operation::Fsync, || {
            Self::empty(reply, self.fs.fsync(ino.0, datasync))
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
        self.guard(Operation::Readdir, || {
            let listed = self.fs.readdir(ino.0, offset, false, &mut |item| {
                let name = OsStr::from_bytes(item.name);
                !reply.add(
                    INodeNo(item.ino),
                    item.cookie,
                    convert::file_type(item.kind),
                    name,
                )
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(convert::errno(errno)),
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
        self.guard(Operation::Readdir, || {
            let listed = self.fs.readdir(ino.0, offset, true, &mut |item| {
                let attr = match &item.attr {
                    Some(attr) => convert::attr(attr),
                    // `.` and `..`: the kernel takes the number and the type only.
                    None => {
                        let mut attr = convert::no_entry();
                        attr.ino = INodeNo(item.ino);
                        attr.kind = convert::file_type(item.kind);
                        attr
                    }
                };
                let (ino, name) = (INodeNo(item.ino), OsStr::from_bytes(item.name));
                !reply.add(ino, item.cookie, name, &FOREVER, &attr, Generation(0))
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(convert::errno(errno)),
            }
        });
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.guard(Operation::Statfs, || match self.fs.statfs() {
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
            Err(errno) => reply.error(convert::errno(errno)),
        });
    }

    fn setxattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.guard(Operation::Setxattr, || {
            let set = self
                .fs
                .setxattr(ino.0, name.as_bytes(), value, flags.cast_unsigned());
            Self::empty(reply, set);
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let question = name
            .to_str()
            .and_then(|name| name.strip_prefix(QUESTION_PREFIX));
        if let (Some(question), Some(workers), ROOT_ID, 0) =
            (question, &self.workers, ino.0, req.uid())
            && name.as_bytes() != STATUS_XATTR
        {
            let (fs, question) = (Arc::clone(&self.fs), question.to_owned());
            workers.run(Box::new(move || {
                let answer = fs.lower.chunks.answer(&question);
                Self::value(reply, size, answer.ok_or(sys::Errno::NODATA));
            }));
            return;
        }
        self.guard(Operation::Getxattr, || {
            let name = name.as_bytes();
            let value = if ino.0 == ROOT_ID && name == STATUS_XATTR {
                self.status()
            } else {
                self.fs.getxattr(ino.0, name)
            };
            Self::value(reply, size, value);
        });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.guard(Operation::Getxattr, || {
            Self::value(reply, size, self.fs.listxattr(ino.0, req.uid() == 0));
        });
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard(Operation::Setxattr, || {
            Self::empty(reply, self.fs.removexattr(ino.0, name.as_bytes()));
        });
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.guard(Operation::Fallocate, || {
            let done = self
                .fs
                .fallocate(ino.0, offset, length, mode.cast_unsigned());
            Self::empty(reply, done);
        });
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
        self.guard(Operation::Seek, || {
            let found = match (u64::try_from(offset), whence) {
                (Err(_), _) => Err(sys::Errno::NXIO),
                (Ok(at), libc::SEEK_DATA) => self.fs.seek(ino.0, at, false),
                (Ok(at), libc::SEEK_HOLE) => self.fs.seek(ino.0, at, true),
                _ => Err(sys::Errno::INVAL),
            };
            match found.and_then(|at| i64::try_from(at).map_err(|_| sys::Errno::OVERFLOW)) {
                Ok(at) => reply.offset(at),
                Err(errno) => reply.error(convert::errno(errno)),
            }
        });
    }

    fn copy_file_range(
        &self,
        _req: &Request,
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
        self.guard(Operation::CopyRange, || {
            match self
                .fs
                .copy_range((ino_in.0, offset_in), (ino_out.0, offset_out), len)
            {
                Ok(count) => reply.written(u32::try_from(count).unwrap_or(u32::MAX)),
                Err(errno) => reply.error(convert::errno(errno)),
            }
        });
    }
}
