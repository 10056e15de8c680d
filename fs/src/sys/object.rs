//! One object of the upper, addressed without ever resolving a path: a name in an open directory,
//! or its own open descriptor (an object without a name).

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Statx, StatxFlags, Timestamps, Uid, XattrFlags,
};

use super::{Errno, Result, identity};

/// The largest value the kernel accepts for one extended attribute (XATTR_SIZE_MAX).
const XATTR_LEN_MAX: usize = 65536;

/// All permissions of the owner.
const OWNER: u32 = 0o700;

/// True if `/proc/self/fd` is the working directory; see [`enter_descriptor_directory`].
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Makes `/proc/self/fd` the working directory, so that no later call resolves a path from `/`: the
/// first program of a root may unmount the `/proc` of the initramfs, which is the one that this
/// process sees.
///
/// # Errors
/// ENOENT without /proc: attributes of device nodes and symbolic links are then unreachable.
pub(crate) fn enter_descriptor_directory() -> Result<()> {
    rustix::process::chdir(c"/proc/self/fd")?;
    ENTERED.store(true, Ordering::Release);
    Ok(())
}

/// The path of `name` in /proc, which outlives the mount at `/proc` once its directory was entered.
pub(crate) fn proc_path(name: &str) -> String {
    let proc = if ENTERED.load(Ordering::Acquire) {
        "../../"
    } else {
        "/proc/"
    };
    [proc, name].concat()
}

fn descriptor_path(fd: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = String::with_capacity(32);
    if !ENTERED.load(Ordering::Acquire) {
        path.push_str("/proc/self/fd/");
    }
    // Writing to a String cannot fail.
    let _ = write!(path, "{}", fd.as_raw_fd());
    let mut path = path.into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// The address of an object of the upper.
#[derive(Debug, Clone)]
pub enum At<'a> {
    /// `name` in the open directory.
    Name(Arc<OwnedFd>, &'a [u8]),
    /// The object behind an open descriptor (any kind of open, O_PATH too).
    Open(Arc<OwnedFd>),
    /// The same, opened for reading or writing: needs no path at all.
    File(&'a OwnedFd),
}

impl At<'_> {
    /// The object's attributes.
    ///
    /// # Errors
    /// ENOENT if the name was removed.
    pub fn stat(&self) -> Result<Stat> {
        match (self.stat_as_it_is(), self) {
            (Err(Errno::ACCESS), At::Name(dir, _)) if identity::own().0 != 0 => {
                At::Open(Arc::clone(dir)).with_all_rights(&|| self.stat_as_it_is())
            }
            (stat, _) => stat,
        }
    }

    fn stat_as_it_is(&self) -> Result<Stat> {
        match self {
            At::Name(dir, name) => rustix::fs::statat(dir, *name, AtFlags::SYMLINK_NOFOLLOW),
            At::Open(fd) => rustix::fs::fstat(fd),
            At::File(fd) => rustix::fs::fstat(fd),
        }
    }

    /// The object's attributes, with its birth time if the file system has one.
    ///
    /// # Errors
    /// ENOENT if the name was removed.
    pub(crate) fn stat_with_birth(&self) -> Result<Statx> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        match self {
            At::Name(dir, name) => rustix::fs::statx(dir, *name, AtFlags::SYMLINK_NOFOLLOW, wanted),
            At::Open(fd) => rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, wanted),
            At::File(fd) => rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, wanted),
        }
    }

    /// Runs `work`. If the permissions of an ordinary user's object deny that user an operation
    /// that root may do, the owner temporarily gets all permissions (visible to others meanwhile).
    ///
    /// # Errors
    /// The error of `work`.
    pub(crate) fn as_owner<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(Errno::ACCESS) if identity::own().0 != 0 => {}
            other => return other,
        }
        match self {
            At::Name(dir, _) => {
                let dir = At::Open(Arc::clone(dir));
                dir.with_all_rights(&|| self.with_all_rights(&work))
            }
            At::Open(_) | At::File(_) => self.with_all_rights(&work),
        }
    }

    fn with_all_rights<T>(&self, work: &dyn Fn() -> Result<T>) -> Result<T> {
        let stat = self.stat_as_it_is()?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let mode = stat.st_mode & 0o7777;
        if is_link || mode & OWNER == OWNER {
            return work();
        }
        self.chmod(mode | OWNER).map_err(|_| Errno::ACCESS)?;
        let done = work();
        let back = self.chmod(mode);
        done.and_then(|done| back.map(|()| done))
    }

    /// Opens the object itself, never the target of a symbolic link.
    ///
    /// # Errors
    /// The errors of open(2).
    pub fn open(&self, flags: OFlags) -> Result<OwnedFd> {
        self.as_owner(|| self.open_as_it_is(flags))
    }

    fn open_as_it_is(&self, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        match self {
            At::Name(dir, name) => {
                rustix::fs::openat(dir, *name, flags | OFlags::NOFOLLOW, Mode::empty())
            }
            At::Open(fd) => {
                rustix::fs::open(descriptor_path(fd.as_fd(), b""), flags, Mode::empty())
            }
            At::File(fd) => {
                rustix::fs::open(descriptor_path(fd.as_fd(), b""), flags, Mode::empty())
            }
        }
    }

    /// Set the permission bits. The object is not a symbolic link.
    ///
    /// # Errors
    /// The errors of chmod(2).
    pub fn chmod(&self, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        match self {
            At::Name(dir, name) => rustix::fs::chmodat(dir, *name, mode, AtFlags::empty()),
            At::Open(fd) => rustix::fs::chmod(descriptor_path(fd.as_fd(), b""), mode),
            At::File(fd) => rustix::fs::fchmod(fd, mode),
        }
    }

    /// Set owner, group or both.
    ///
    /// # Errors
    /// The errors of chown(2).
    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            At::Name(dir, name) => {
                rustix::fs::chownat(dir, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
            At::Open(fd) => rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH),
            At::File(fd) => rustix::fs::fchown(fd, uid, gid),
        }
    }

    /// Set access and modification time.
    ///
    /// # Errors
    /// The errors of utimensat(2).
    pub fn set_times(&self, times: &Timestamps) -> Result<()> {
        match self {
            At::Name(dir, name) => {
                rustix::fs::utimensat(dir, *name, times, AtFlags::SYMLINK_NOFOLLOW)
            }
            At::Open(fd) => {
                let path = descriptor_path(fd.as_fd(), b"");
                rustix::fs::utimensat(rustix::fs::CWD, path, times, AtFlags::empty())
            }
            At::File(fd) => rustix::fs::futimens(fd, times),
        }
    }

    fn path(&self) -> (Vec<u8>, bool) {
        match self {
            At::Name(dir, name) => (descriptor_path(dir.as_fd(), name), false),
            At::Open(fd) => (descriptor_path(fd.as_fd(), b""), true),
            At::File(fd) => (descriptor_path(fd.as_fd(), b""), true),
        }
    }

    /// The value of attribute `name`.
    ///
    /// # Errors
    /// ENODATA if it has none by that name.
    pub fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.as_owner(|| self.xattr_as_it_is(name))
    }

    fn xattr_as_it_is(&self, name: &[u8]) -> Result<Vec<u8>> {
        let (path, follow) = self.path();
        let mut small = [0_u8; 256];
        let got = if follow {
            rustix::fs::getxattr(&path[..], name, &mut small)
        } else {
            rustix::fs::lgetxattr(&path[..], name, &mut small)
        };
        match got {
            Ok(len) => Ok(small.get(..len).unwrap_or_default().to_vec()),
            Err(Errno::RANGE) => {
                let mut large = vec![0_u8; XATTR_LEN_MAX];
                let len = if follow {
                    rustix::fs::getxattr(&path[..], name, &mut large[..])?
                } else {
                    rustix::fs::lgetxattr(&path[..], name, &mut large[..])?
                };
                large.truncate(len);
                Ok(large)
            }
            Err(errno) => Err(errno),
        }
    }

    /// The names of all attributes, as the kernel stores them.
    ///
    /// # Errors
    /// The errors of listxattr(2).
    pub fn xattr_names(&self) -> Result<Vec<Vec<u8>>> {
        self.as_owner(|| self.xattr_names_as_they_are())
    }

    fn xattr_names_as_they_are(&self) -> Result<Vec<Vec<u8>>> {
        let (path, follow) = self.path();
        let mut small = [0_u8; 512];
        let got = if follow {
            rustix::fs::listxattr(&path[..], &mut small)
        } else {
            rustix::fs::llistxattr(&path[..], &mut small)
        };
        let split = |list: &[u8]| -> Vec<Vec<u8>> {
            list.split(|byte| *byte == 0)
                .filter(|n| !n.is_empty())
                .map(<[u8]>::to_vec)
                .collect()
        };
        match got {
            Ok(len) => Ok(split(small.get(..len).unwrap_or_default())),
            Err(Errno::RANGE) => {
                let mut large = vec![0_u8; XATTR_LEN_MAX];
                let len = if follow {
                    rustix::fs::listxattr(&path[..], &mut large[..])?
                } else {
                    rustix::fs::llistxattr(&path[..], &mut large[..])?
                };
                Ok(split(large.get(..len).unwrap_or_default()))
            }
            Err(errno) => Err(errno),
        }
    }

    /// Set attribute `name`.
    ///
    /// # Errors
    /// The errors of setxattr(2).
    pub fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        if let At::File(fd) = self {
            return self.as_owner(|| rustix::fs::fsetxattr(fd, name, value, flags));
        }
        let (path, follow) = self.path();
        self.as_owner(|| match follow {
            true => rustix::fs::setxattr(&path[..], name, value, flags),
            false => rustix::fs::lsetxattr(&path[..], name, value, flags),
        })
    }

    /// Remove attribute `name`.
    ///
    /// # Errors
    /// ENODATA if it has none by that name.
    pub(crate) fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let (path, follow) = self.path();
        self.as_owner(|| match follow {
            true => rustix::fs::removexattr(&path[..], name),
            false => rustix::fs::lremovexattr(&path[..], name),
        })
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL if it is none.
    pub fn read_link(&self) -> Result<Vec<u8>> {
        match self {
            At::Name(dir, name) => {
                rustix::fs::readlinkat(dir, *name, Vec::new()).map(std::ffi::CString::into_bytes)
            }
            At::Open(fd) => {
                rustix::fs::readlinkat(fd, c"", Vec::new()).map(std::ffi::CString::into_bytes)
            }
            At::File(_) => Err(Errno::INVAL),
        }
    }

    /// Give the object behind an open descriptor the name `name` in `dir`.
    ///
    /// # Errors
    /// The errors of linkat(2).
    pub fn link(&self, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        match self {
            At::Name(from, old) => rustix::fs::linkat(from, *old, dir, name, AtFlags::empty()),
            At::Open(fd) => {
                let path = descriptor_path(fd.as_fd(), b"");
                rustix::fs::linkat(rustix::fs::CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)
            }
            At::File(fd) => {
                let path = descriptor_path(fd.as_fd(), b"");
                rustix::fs::linkat(rustix::fs::CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)
            }
        }
    }
}
