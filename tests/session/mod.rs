//! A file system as a process sees it: the calls that the tests make, on any of three things.
//!
//! [`paths::Paths`] is a directory of the machine (a mount, kernel overlayfs, a plain directory), [`direct::Direct`]
//! is the merged file system in this process, without a mount and without root. A test that needs no kernel runs on a
//! mount and in the process; a later transport to a kernel implements the same two traits.

pub(crate) mod baker;
pub(crate) mod direct;
pub(crate) mod files;
pub(crate) mod kept;
pub(crate) mod memory;
pub(crate) mod paths;
pub(crate) mod snapshot;

use std::ops::Range;
use std::path::Path;

pub(crate) use layerfs::filesystem::Protection;
pub(crate) use layerfs::filesystem::reply::{Attr, Changes, NewTime, Space};
pub(crate) use rustix::fs::{FallocateFlags, OFlags, RenameFlags};
pub(crate) use rustix::io::{Errno, Result};

/// A number for an open file.
pub(crate) type Handle = u64;

/// The object of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Object<'a> {
    /// The one with this name; a symbolic link itself.
    Name(&'a Path),
    /// The open one.
    Open(Handle),
}

/// A new name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum New<'a> {
    /// A file, directory, pipe, socket or device: type and permissions, device number.
    Node(u32, (u32, u32)),
    /// A symbolic link to this.
    Symlink(&'a [u8]),
    /// One more name of this object.
    Link(&'a Path),
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) ino: u64,
    /// Where to go on after it.
    pub(crate) cookie: u64,
}

/// The process that calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: u32,
}

/// System calls. Paths are relative to the root.
pub(crate) trait Session: Send + Sync {
    /// open(2), never through a symbolic link at the end.
    fn open(&self, path: &Path, flags: OFlags, mode: u32) -> Result<Handle>;
    /// close(2).
    fn close(&self, handle: Handle);
    /// pread(2).
    fn read(&self, handle: Handle, offset: u64, len: usize) -> Result<Vec<u8>>;
    /// pwrite(2); a file opened with `O_APPEND` is written at its end.
    fn write(&self, handle: Handle, offset: u64, data: &[u8]) -> Result<usize>;
    /// lstat(2), fstat(2).
    fn stat(&self, of: Object<'_>) -> Result<Attr>;
    /// chmod(2), lchown(2), utimensat(2), truncate(2) and the calls for open files: one change at a time.
    fn change(&self, of: Object<'_>, changes: &Changes) -> Result<()>;
    /// mknod(2), mkdir(2), symlink(2), link(2).
    fn make(&self, path: &Path, new: New<'_>) -> Result<()>;
    /// rmdir(2) or unlink(2).
    fn remove(&self, path: &Path, directory: bool) -> Result<()>;
    /// renameat2(2).
    fn rename(&self, from: &Path, to: &Path, flags: RenameFlags) -> Result<()>;
    /// readlink(2).
    fn read_link(&self, path: &Path) -> Result<Vec<u8>>;
    /// getdents(2): up to `most` entries after `cookie`.
    fn list(&self, handle: Handle, cookie: u64, most: usize) -> Result<Vec<Entry>>;
    /// lgetxattr(2).
    fn xattr(&self, path: &Path, name: &str) -> Result<Vec<u8>>;
    /// llistxattr(2).
    fn xattr_names(&self, path: &Path) -> Result<Vec<String>>;
    /// lsetxattr(2); lremovexattr(2) without a value.
    fn set_xattr(&self, path: &Path, name: &str, value: Option<&[u8]>) -> Result<()>;
    /// fallocate(2).
    fn allocate(&self, handle: Handle, flags: FallocateFlags, range: Range<u64>) -> Result<()>;
    /// lseek(2) with `SEEK_DATA` or `SEEK_HOLE`.
    fn seek(&self, handle: Handle, offset: u64, hole: bool) -> Result<u64>;
    /// copy_file_range(2).
    fn copy(&self, from: (Handle, u64), to: (Handle, u64), len: usize) -> Result<usize>;
    /// fsync(2).
    fn sync(&self, handle: Handle) -> Result<()>;
    /// statfs(2).
    fn space(&self) -> Result<Space>;
    /// `FS_IOC_SETFLAGS`.
    fn protect(&self, path: &Path, protection: Protection) -> Result<()>;
    /// The same files for another process.
    fn of(&self, user: &User) -> Box<dyn Session>;
}

/// A session on a stack and an upper, which ends and begins again.
pub(crate) trait Attached: Session {
    /// The session ends; nothing is open.
    fn detach(&self);
    /// It begins again.
    fn attach(&self);
    /// The content of `layerfs status`.
    fn status(&self) -> serde_json::Value;
    /// The lines of the log so far, maybe with those of others.
    fn log(&self) -> String;
    /// The kernel's caches and the table of nodes forget what they can.
    fn forget(&self);
}

/// The parts of an [`Attached`].
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// The top one first.
    pub(crate) layers: Vec<std::path::PathBuf>,
    /// Upper and work directory.
    pub(crate) upper: Option<(std::path::PathBuf, std::path::PathBuf)>,
    /// Further options of the mount.
    pub(crate) options: String,
}

/// True if this process has all privileges.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The name of an attribute that makes an upper an upper: an ordinary user's are in another namespace.
pub(crate) fn mark(name: &str) -> String {
    let space = if is_root() { "trusted" } else { "user" };
    format!("{space}.{name}")
}
