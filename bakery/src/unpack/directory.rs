//! Writes a tree into a directory, relative to open descriptors.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use layerfmt::tree::Time;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use super::{
    ContentReader, Index, Ino, Reading, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG,
    UnpackError, UnpackObject, UnpackTarget, device_of, marked_xattrs,
};

/// A directory being filled.
pub(super) struct DirectoryTarget<'i> {
    index: &'i Index,
    root: OwnedFd,
    reading: Reading,
    /// Open directories, outermost first, with their inode for when they are left.
    open: Vec<(OwnedFd, Ino)>,
}

impl<'i> DirectoryTarget<'i> {
    /// Creates `place`, or uses an empty directory.
    pub(super) fn create(
        index: &'i Index,
        place: &Path,
        reading: Reading,
    ) -> Result<Self, UnpackError> {
        let shown = place.display().to_string();
        let refused = |source: io::Error| UnpackError::Place {
            place: shown.clone(),
            source,
        };
        match std::fs::create_dir(place) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if std::fs::read_dir(place).map_err(refused)?.next().is_some() {
                    return Err(UnpackError::NotEmpty(shown));
                }
            }
            Err(error) => return Err(refused(error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(place, flags, Mode::empty()).map_err(|errno| refused(errno.into()))?;
        Ok(DirectoryTarget {
            index,
            root,
            reading,
            open: Vec::new(),
        })
    }

    fn parent(&self) -> io::Result<&OwnedFd> {
        self.open
            .last()
            .map(|(fd, _)| fd)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A name below the innermost open directory as a path that needs no descriptor argument.
    fn link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        let parent = self.parent()?.as_raw_fd();
        Ok([format!("/proc/self/fd/{parent}/").as_bytes(), name].concat())
    }

    fn directory(&mut self, name: &[u8], ino: Ino) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match self.open.last() {
            None => self.root.try_clone()?,
            Some((parent, _)) => {
                rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
                rustix::fs::openat(parent, name, flags, Mode::empty())?
            }
        };
        self.open.push((fd, ino));
        Ok(())
    }

    fn file(
        &self,
        name: &[u8],
        object: &UnpackObject<'_>,
        reader: &mut ContentReader<'_>,
    ) -> io::Result<u64> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = File::from(rustix::fs::openat(self.parent()?, name, flags, mode)?);
        file.set_len(object.inode.size)?;
        let mut written = 0;
        reader.runs(object.ino, |offset, bytes| {
            written += bytes.len() as u64;
            file.write_all_at(bytes, offset)
        })?;
        self.metadata_of(&file, object.ino)?;
        Ok(written)
    }

    /// Owner, then permissions (a change of owner clears setuid), then attributes (it clears
    /// capabilities too), the time last.
    fn metadata_of(&self, fd: impl AsFd, ino: Ino) -> io::Result<()> {
        let Some(inode) = self.index.inode(ino) else {
            return Ok(());
        };
        rustix::fs::fchown(
            &fd,
            Some(Uid::from_raw(inode.uid)),
            Some(Gid::from_raw(inode.gid)),
        )?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(inode.mode & 0o7777))?;
        for (name, value) in marked_xattrs(self.index, ino, self.reading, inode.opaque) {
            rustix::fs::fsetxattr(&fd, name.as_slice(), &value, XattrFlags::empty())?;
        }
        rustix::fs::futimens(&fd, &times(inode.mtime))?;
        Ok(())
    }

    /// The same for objects that cannot be opened.
    fn metadata_at(&self, name: &[u8], object: &UnpackObject<'_>) -> io::Result<()> {
        let (parent, inode) = (self.parent()?, &object.inode);
        let (uid, gid) = (Uid::from_raw(inode.uid), Gid::from_raw(inode.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)?;
        if inode.kind() != S_IFLNK {
            let mode = Mode::from_raw_mode(inode.mode & 0o7777);
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
        }
        let link = self.link(name)?;
        let link = Path::new(std::ffi::OsStr::from_bytes(&link));
        for (key, value) in marked_xattrs(self.index, object.ino, self.reading, false) {
            rustix::fs::lsetxattr(link, key.as_slice(), &value, XattrFlags::empty())?;
        }
        rustix::fs::utimensat(parent, name, &times(inode.mtime), flags)?;
        Ok(())
    }

    fn node(&self, name: &[u8], kind: FileType, device: u64) -> io::Result<()> {
        Ok(rustix::fs::mknodat(
            self.parent()?,
            name,
            kind,
            Mode::RUSR | Mode::WUSR,
            device,
        )?)
    }
}

impl UnpackTarget for DirectoryTarget<'_> {
    fn object(
        &mut self,
        _path: &[u8],
        name: &[u8],
        object: &UnpackObject<'_>,
        reader: &mut ContentReader<'_>,
    ) -> io::Result<u64> {
        if let Some(first) = object.first {
            rustix::fs::linkat(&self.root, first, self.parent()?, name, AtFlags::empty())?;
            return Ok(0);
        }
        let (major, minor) = device_of(&object.inode, self.reading);
        let device = rustix::fs::makedev(major, minor);
        match object.inode.kind() {
            S_IFDIR => {
                self.directory(name, object.ino)?;
                return Ok(0);
            }
            S_IFREG => return self.file(name, object, reader),
            S_IFLNK => {
                rustix::fs::symlinkat(self.index.symlink(object.ino), self.parent()?, name)?;
            }
            S_IFCHR => self.node(name, FileType::CharacterDevice, device)?,
            S_IFBLK => self.node(name, FileType::BlockDevice, device)?,
            S_IFIFO => self.node(name, FileType::Fifo, 0)?,
            _ => self.node(name, FileType::Socket, 0)?,
        }
        self.metadata_at(name, object)?;
        Ok(0)
    }

    fn whiteout(&mut self, _path: &[u8], name: &[u8]) -> io::Result<()> {
        self.node(name, FileType::CharacterDevice, 0)
    }

    fn leave(&mut self) -> io::Result<()> {
        match self.open.pop() {
            Some((fd, ino)) => self.metadata_of(&fd, ino),
            None => Ok(()),
        }
    }
}

fn times(mtime: Time) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.sec,
        tv_nsec: mtime.nsec.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
