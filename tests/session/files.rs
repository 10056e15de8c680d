//! The calls of `std::fs`, made of those of a [`Session`].

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{
    Attr, Changes, Entry, Errno, FallocateFlags, Handle, New, NewTime, OFlags, Object, RenameFlags,
    Result, Session,
};

const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const TYPE: u32 = 0o170_000;
/// Bytes and entries that one call asks for.
const STEP: usize = 128 << 10;
const ENTRIES: usize = 512;

/// An open file; closed when dropped.
pub(crate) struct Open<'s, S: Session + ?Sized> {
    session: &'s S,
    handle: Handle,
}

impl<S: Session + ?Sized> Drop for Open<'_, S> {
    fn drop(&mut self) {
        self.session.close(self.handle);
    }
}

impl<S: Session + ?Sized> Open<'_, S> {
    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// Up to `len` bytes; fewer only at the end.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < len {
            let at = offset + all.len() as u64;
            let some = self
                .session
                .read(self.handle, at, (len - all.len()).min(STEP))?;
            if some.is_empty() {
                break;
            }
            all.extend(some);
        }
        Ok(all)
    }

    /// All of `data`.
    pub(crate) fn write(&self, offset: u64, data: impl AsRef<[u8]>) -> Result<()> {
        let mut rest = data.as_ref();
        let mut at = offset;
        while !rest.is_empty() {
            let done = self
                .session
                .write(self.handle, at, &rest[..rest.len().min(STEP)])?;
            assert!(done > 0, "a write of nothing");
            rest = &rest[done..];
            at += done as u64;
        }
        Ok(())
    }

    pub(crate) fn stat(&self) -> Result<Attr> {
        self.session.stat(Object::Open(self.handle))
    }

    pub(crate) fn set_len(&self, len: u64) -> Result<()> {
        let changes = Changes {
            size: Some(len),
            ..Changes::default()
        };
        self.session.change(Object::Open(self.handle), &changes)
    }

    /// `FALLOC_FL_PUNCH_HOLE`.
    pub(crate) fn punch(&self, offset: u64, len: u64) -> Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.session
            .allocate(self.handle, flags, offset..offset + len)
    }

    pub(crate) fn allocate(&self, len: u64) -> Result<()> {
        self.session
            .allocate(self.handle, FallocateFlags::empty(), 0..len)
    }

    pub(crate) fn seek(&self, offset: u64, hole: bool) -> Result<u64> {
        self.session.seek(self.handle, offset, hole)
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.session.sync(self.handle)
    }

    pub(crate) fn list(&self, cookie: u64, most: usize) -> Result<Vec<Entry>> {
        self.session.list(self.handle, cookie, most)
    }
}

/// The calls of a program.
pub(crate) trait Files: Session {
    fn open_with(
        &self,
        path: impl AsRef<Path>,
        flags: OFlags,
        mode: u32,
    ) -> Result<Open<'_, Self>> {
        Ok(Open {
            handle: self.open(path.as_ref(), flags, mode)?,
            session: self,
        })
    }

    /// For reading.
    fn open_read(&self, path: impl AsRef<Path>) -> Result<Open<'_, Self>> {
        self.open_with(path, OFlags::RDONLY, 0)
    }

    /// For reading and writing.
    fn open_both(&self, path: impl AsRef<Path>) -> Result<Open<'_, Self>> {
        self.open_with(path, OFlags::RDWR, 0)
    }

    /// A new file.
    fn create_new(&self, path: impl AsRef<Path>) -> Result<Open<'_, Self>> {
        self.open_with(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, 0o666)
    }

    fn content(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        self.open_read(path)?.read(0, usize::MAX)
    }

    /// The file `path` has this content.
    fn put(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        self.open_with(path, flags, 0o666)?.write(0, content)
    }

    fn append(&self, path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> Result<()> {
        self.open_with(path, OFlags::WRONLY | OFlags::APPEND, 0)?
            .write(0, data)
    }

    fn about(&self, path: impl AsRef<Path>) -> Result<Attr> {
        self.stat(Object::Name(path.as_ref()))
    }

    fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.about(path).is_ok()
    }

    /// Its number.
    fn ino(&self, path: impl AsRef<Path>) -> u64 {
        self.about(path).unwrap().ino
    }

    /// Permission bits.
    fn mode(&self, path: impl AsRef<Path>) -> u32 {
        self.about(path).unwrap().mode & 0o7777
    }

    fn chmod(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let changes = Changes {
            mode: Some(mode),
            ..Changes::default()
        };
        self.change(Object::Name(path.as_ref()), &changes)
    }

    fn chown(&self, path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let changes = Changes {
            uid,
            gid,
            ..Changes::default()
        };
        self.change(Object::Name(path.as_ref()), &changes)
    }

    /// Both times.
    fn set_times(&self, path: impl AsRef<Path>, time: NewTime) -> Result<()> {
        let changes = Changes {
            atime: Some(time),
            mtime: Some(time),
            ..Changes::default()
        };
        self.change(Object::Name(path.as_ref()), &changes)
    }

    fn truncate(&self, path: impl AsRef<Path>, len: u64) -> Result<()> {
        let changes = Changes {
            size: Some(len),
            ..Changes::default()
        };
        self.change(Object::Name(path.as_ref()), &changes)
    }

    fn mkdir(&self, path: impl AsRef<Path>) -> Result<()> {
        self.make(path.as_ref(), New::Node(DIRECTORY | 0o777, (0, 0)))
    }

    fn mkdir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut at = std::path::PathBuf::new();
        for part in path.as_ref() {
            at.push(part);
            match self.mkdir(&at) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn symlink(&self, target: &str, path: impl AsRef<Path>) -> Result<()> {
        self.make(path.as_ref(), New::Symlink(target.as_bytes()))
    }

    fn hard_link(&self, old: impl AsRef<Path>, new: impl AsRef<Path>) -> Result<()> {
        self.make(new.as_ref(), New::Link(old.as_ref()))
    }

    fn unlink(&self, path: impl AsRef<Path>) -> Result<()> {
        self.remove(path.as_ref(), false)
    }

    fn rmdir(&self, path: impl AsRef<Path>) -> Result<()> {
        self.remove(path.as_ref(), true)
    }

    fn remove_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if self.about(path)?.mode & TYPE != DIRECTORY {
            return self.unlink(path);
        }
        for entry in self.entries(path)? {
            self.remove_all(path.join(std::ffi::OsStr::from_bytes(&entry.name)))?;
        }
        self.rmdir(path)
    }

    fn mv(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.rename(from.as_ref(), to.as_ref(), RenameFlags::empty())
    }

    fn mv_with(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        flags: RenameFlags,
    ) -> Result<()> {
        self.rename(from.as_ref(), to.as_ref(), flags)
    }

    /// All entries but `.` and `..`, as they come.
    fn entries(&self, path: impl AsRef<Path>) -> Result<Vec<Entry>> {
        let open = self.open_with(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        let (mut all, mut cookie) = (Vec::new(), 0);
        loop {
            let some = open.list(cookie, ENTRIES)?;
            let Some(last) = some.last() else { break };
            cookie = last.cookie;
            all.extend(some);
        }
        all.retain(|entry: &Entry| entry.name != b"." && entry.name != b"..");
        Ok(all)
    }

    /// All names, in order; a name that comes twice fails.
    fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let mut names = BTreeSet::new();
        for entry in self.entries(path).unwrap() {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            assert!(names.insert(name.clone()), "{name} is listed twice");
        }
        names.into_iter().collect()
    }

    fn get_xattr(&self, path: impl AsRef<Path>, name: &str) -> Option<Vec<u8>> {
        self.xattr(path.as_ref(), name).ok()
    }

    fn put_xattr(&self, path: impl AsRef<Path>, name: &str, value: &[u8]) -> Result<()> {
        self.set_xattr(path.as_ref(), name, Some(value))
    }

    fn drop_xattr(&self, path: impl AsRef<Path>, name: &str) -> Result<()> {
        self.set_xattr(path.as_ref(), name, None)
    }

    fn is_link(&self, path: impl AsRef<Path>) -> bool {
        self.about(path)
            .is_ok_and(|about| about.mode & TYPE == SYMLINK)
    }
}

impl<S: Session + ?Sized> Files for S {}
