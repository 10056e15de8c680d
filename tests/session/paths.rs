//! A directory of the machine: a mount, kernel overlayfs, or a plain one.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, RawDir, SeekFrom, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{
    Attr, Changes, Entry, Errno, FallocateFlags, Handle, New, NewTime, OFlags, Object, Protection,
    RenameFlags, Result, Session, Space, User,
};

/// `UTIME_NOW` and `UTIME_OMIT` of <sys/stat.h>.
const NOW: i64 = (1 << 30) - 1;
const OMIT: i64 = (1 << 30) - 2;
const XATTR_LEN_MAX: usize = 65536;

/// Everything below a directory.
pub(crate) struct Paths {
    root: PathBuf,
    open: Arc<Mutex<HashMap<Handle, Arc<OwnedFd>>>>,
    next: Arc<AtomicU64>,
    /// Another than this process.
    user: Option<User>,
}

impl Paths {
    pub(crate) fn new(root: &Path) -> Paths {
        Paths {
            root: root.to_owned(),
            open: Arc::default(),
            next: Arc::default(),
            user: None,
        }
    }

    fn at(&self, path: &Path) -> PathBuf {
        match path.as_os_str().is_empty() {
            true => self.root.clone(),
            false => self.root.join(path),
        }
    }

    fn file(&self, handle: Handle) -> Result<Arc<OwnedFd>> {
        self.open
            .lock()
            .unwrap()
            .get(&handle)
            .cloned()
            .ok_or(Errno::BADF)
    }

    /// Nothing is open any more.
    pub(crate) fn close_all(&self) {
        self.open.lock().unwrap().clear();
    }

    /// Do `work` as the user: on a thread of its own.
    fn act<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let Some(user) = &self.user else {
            return work();
        };
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                become_user(user)?;
                work()
            });
            done.join().unwrap()
        })
    }
}

/// This thread is the user's from now on.
#[expect(unsafe_code, reason = "the umask of one thread is its own after that")]
fn become_user(user: &User) -> Result<()> {
    // SAFETY: only this thread's working directory, root and umask come apart from those of the others.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS)? };
    rustix::process::umask(Mode::from_raw_mode(user.umask));
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn timespec(time: Option<NewTime>) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        Some(NewTime::Exactly((sec, nsec))) => (sec, i64::from(nsec)),
        Some(NewTime::Now) => (0, NOW),
        None => (0, OMIT),
    };
    Timespec { tv_sec, tv_nsec }
}

impl Session for Paths {
    fn open(&self, path: &Path, flags: OFlags, mode: u32) -> Result<Handle> {
        let (flags, mode) = (
            flags | OFlags::NOFOLLOW | OFlags::NONBLOCK,
            Mode::from_raw_mode(mode),
        );
        let flags = flags | OFlags::CLOEXEC;
        let file = self.act(|| rustix::fs::open(self.at(path), flags, mode))?;
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().unwrap().insert(handle, Arc::new(file));
        Ok(handle)
    }

    fn close(&self, handle: Handle) {
        let file = self.open.lock().unwrap().remove(&handle);
        drop(file);
    }

    fn read(&self, handle: Handle, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut data = Vec::with_capacity(len);
        let space = rustix::buffer::spare_capacity(&mut data);
        rustix::io::pread(self.file(handle)?, space, offset)?;
        Ok(data)
    }

    fn write(&self, handle: Handle, offset: u64, data: &[u8]) -> Result<usize> {
        let file = self.file(handle)?;
        self.act(|| rustix::io::pwrite(&file, data, offset))
    }

    fn stat(&self, of: Object<'_>) -> Result<Attr> {
        let stat = match of {
            Object::Name(path) => self.act(|| rustix::fs::lstat(self.at(path)))?,
            Object::Open(handle) => rustix::fs::fstat(self.file(handle)?)?,
        };
        Ok(Attr::from_stat(stat.st_ino, &stat))
    }

    fn change(&self, of: Object<'_>, changes: &Changes) -> Result<()> {
        let times = (changes.atime.is_some() || changes.mtime.is_some()).then(|| Timestamps {
            last_access: timespec(changes.atime),
            last_modification: timespec(changes.mtime),
        });
        let (uid, gid) = (
            changes.uid.map(Uid::from_raw),
            changes.gid.map(Gid::from_raw),
        );
        let owner = uid.is_some() || gid.is_some();
        match of {
            Object::Name(path) => self.act(|| {
                let at = self.at(path);
                if let Some(mode) = changes.mode {
                    rustix::fs::chmod(&at, Mode::from_raw_mode(mode))?;
                }
                if owner {
                    rustix::fs::chownat(CWD, &at, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                }
                if let Some(size) = changes.size {
                    let file = std::ffi::CString::new(at.as_os_str().as_encoded_bytes()).unwrap();
                    truncate(&file, size)?;
                }
                match &times {
                    Some(times) => {
                        rustix::fs::utimensat(CWD, &at, times, AtFlags::SYMLINK_NOFOLLOW)
                    }
                    None => Ok(()),
                }
            }),
            Object::Open(handle) => {
                let file = self.file(handle)?;
                self.act(|| {
                    if let Some(mode) = changes.mode {
                        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
                    }
                    if owner {
                        rustix::fs::fchown(&file, uid, gid)?;
                    }
                    if let Some(size) = changes.size {
                        rustix::fs::ftruncate(&file, size)?;
                    }
                    match &times {
                        Some(times) => rustix::fs::futimens(&file, times),
                        None => Ok(()),
                    }
                })
            }
        }
    }

    fn make(&self, path: &Path, new: New<'_>) -> Result<()> {
        let at = self.at(path);
        self.act(|| match new {
            New::Node(mode, (major, minor)) => {
                let kind = FileType::from_raw_mode(mode);
                let mode = Mode::from_raw_mode(mode & 0o7777);
                match kind {
                    FileType::Directory => rustix::fs::mkdir(&at, mode),
                    kind => {
                        let device = rustix::fs::makedev(major, minor);
                        rustix::fs::mknodat(CWD, &at, kind, mode, device)
                    }
                }
            }
            New::Symlink(target) => rustix::fs::symlink(target, &at),
            New::Link(old) => rustix::fs::linkat(CWD, self.at(old), CWD, &at, AtFlags::empty()),
        })
    }

    fn remove(&self, path: &Path, directory: bool) -> Result<()> {
        let at = self.at(path);
        self.act(|| match directory {
            true => rustix::fs::rmdir(&at),
            false => rustix::fs::unlink(&at),
        })
    }

    fn rename(&self, from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
        let (from, to) = (self.at(from), self.at(to));
        self.act(|| rustix::fs::renameat_with(CWD, &from, CWD, &to, flags))
    }

    fn read_link(&self, path: &Path) -> Result<Vec<u8>> {
        self.act(|| rustix::fs::readlink(self.at(path), Vec::new()))
            .map(std::ffi::CString::into_bytes)
    }

    fn list(&self, handle: Handle, cookie: u64, most: usize) -> Result<Vec<Entry>> {
        let directory = self.file(handle)?;
        rustix::fs::seek(&directory, SeekFrom::Start(cookie))?;
        let mut buffer = vec![MaybeUninit::uninit(); (most * 24).clamp(320, 32 << 10)];
        let mut raw = RawDir::new(&directory, &mut buffer);
        let mut entries = Vec::new();
        while entries.len() < most {
            let Some(entry) = raw.next() else { break };
            let entry = entry?;
            entries.push(Entry {
                name: entry.file_name().to_bytes().to_vec(),
                ino: entry.ino(),
                cookie: entry.next_entry_cookie(),
            });
        }
        Ok(entries)
    }

    fn xattr(&self, path: &Path, name: &str) -> Result<Vec<u8>> {
        let at = self.at(path);
        self.act(|| sized(&mut |space| rustix::fs::lgetxattr(&at, name, space)))
    }

    fn xattr_names(&self, path: &Path) -> Result<Vec<String>> {
        let at = self.at(path);
        let list = self.act(|| sized(&mut |space| rustix::fs::llistxattr(&at, space)))?;
        let names = list.split(|byte| *byte == 0);
        Ok(names
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect())
    }

    fn set_xattr(&self, path: &Path, name: &str, value: Option<&[u8]>) -> Result<()> {
        let at = self.at(path);
        self.act(|| match value {
            Some(value) => rustix::fs::lsetxattr(&at, name, value, XattrFlags::empty()),
            None => rustix::fs::lremovexattr(&at, name),
        })
    }

    fn allocate(&self, handle: Handle, flags: FallocateFlags, range: Range<u64>) -> Result<()> {
        let file = self.file(handle)?;
        self.act(|| rustix::fs::fallocate(&file, flags, range.start, range.end - range.start))
    }

    fn seek(&self, handle: Handle, offset: u64, hole: bool) -> Result<u64> {
        let to = match hole {
            true => SeekFrom::Hole(offset),
            false => SeekFrom::Data(offset),
        };
        rustix::fs::seek(self.file(handle)?, to)
    }

    fn copy(&self, from: (Handle, u64), to: (Handle, u64), len: usize) -> Result<usize> {
        let (source, target) = (self.file(from.0)?, self.file(to.0)?);
        let (mut at, mut put) = (from.1, to.1);
        self.act(|| {
            rustix::fs::copy_file_range(&source, Some(&mut at), &target, Some(&mut put), len)
        })
    }

    fn sync(&self, handle: Handle) -> Result<()> {
        rustix::fs::fsync(self.file(handle)?)
    }

    fn space(&self) -> Result<Space> {
        let found = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            blocks: found.f_blocks,
            free: found.f_bfree,
            available: found.f_bavail,
            files: found.f_files,
            files_free: found.f_ffree,
            block_len: u32::try_from(found.f_bsize).unwrap(),
            fragment_len: u32::try_from(found.f_frsize).unwrap(),
            name_len_max: u32::try_from(found.f_namemax).unwrap(),
        })
    }

    fn protect(&self, path: &Path, protection: Protection) -> Result<()> {
        let file = rustix::fs::open(self.at(path), OFlags::RDONLY, Mode::empty())?;
        let mut flags = rustix::fs::ioctl_getflags(&file)?;
        flags.set(rustix::fs::IFlags::IMMUTABLE, protection.immutable);
        flags.set(rustix::fs::IFlags::APPEND, protection.append_only);
        self.act(|| rustix::fs::ioctl_setflags(&file, flags))
    }

    fn of(&self, user: &User) -> Box<dyn Session> {
        Box::new(Paths {
            root: self.root.clone(),
            open: Arc::clone(&self.open),
            next: Arc::clone(&self.next),
            user: Some(user.clone()),
        })
    }
}

/// The answer of a call, in a buffer that is mostly long enough.
fn sized(call: &mut dyn FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut small = [0; 1024];
    match call(&mut small) {
        Err(Errno::RANGE) => {
            let mut large = vec![0; XATTR_LEN_MAX];
            let len = call(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        len => Ok(small[..len?].to_vec()),
    }
}

/// truncate(2).
fn truncate(path: &std::ffi::CStr, size: u64) -> Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty())?;
    rustix::fs::ftruncate(&file, size)
}
