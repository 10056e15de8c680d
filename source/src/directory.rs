//! A directory of this machine, walked in name order below one open directory.
//!
//! Every step opens one name relative to an open parent without following links, so a tree that
//! changes during the walk cannot lead it elsewhere.

mod regular;

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use layerfmt::tree::{Metadata, Time, Xattrs};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use self::regular::Regular;
use super::{Body, Data, Entry, EntryPath, Segments, Source, SourceError};

/// A directory being walked.
#[derive(Debug)]
pub struct DirectorySource {
    name: String,
    root: Option<OwnedFd>,
    root_device: u64,
    across: bool,
    /// Open directories, outermost first, with the names still to come, last one first.
    open: Vec<(OwnedFd, EntryPath, Vec<Vec<u8>>)>,
    /// The first path of a file with several names.
    links: HashMap<(u64, u64), EntryPath>,
    last: Option<(u64, u64)>,
    reader: Regular,
    notes: Vec<String>,
}

impl DirectorySource {
    /// The directory at `path`. Unless `across`, other file systems mounted inside stay out
    /// (their mount points are empty directories).
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, across: bool) -> Result<Self, SourceError> {
        let name = path.display().to_string();
        let refused = |problem: &str, errno: Errno| {
            SourceError::new(&name, problem).cause(io::Error::from(errno))
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| refused("cannot open the directory", errno))?;
        let stat = rustix::fs::fstat(&root).map_err(|errno| refused("cannot stat it", errno))?;
        Ok(DirectorySource {
            name,
            root: Some(root),
            root_device: stat.st_dev,
            across,
            open: Vec::new(),
            links: HashMap::new(),
            last: None,
            reader: Regular::default(),
            notes: Vec::new(),
        })
    }

    fn refused(&self, path: &EntryPath, problem: &str, errno: Errno) -> SourceError {
        SourceError::new(&self.name, problem)
            .entry(path)
            .cause(io::Error::from(errno))
    }

    /// The root, first of all entries.
    fn root(&mut self, root: OwnedFd) -> Result<Entry<'_>, SourceError> {
        let path = EntryPath::default();
        let stat = rustix::fs::fstat(&root)
            .map_err(|errno| self.refused(&path, "cannot stat it", errno))?;
        let link = format!("/proc/self/fd/{}/.", root.as_raw_fd()).into_bytes();
        let meta = self.metadata(&path, &stat, &link)?;
        self.enter(root, path.clone())?;
        Ok(Entry {
            path,
            meta,
            body: Body::Directory,
        })
    }

    /// Lists a directory so that the walk continues inside it.
    fn enter(&mut self, directory: OwnedFd, path: EntryPath) -> Result<(), SourceError> {
        let refused = |errno| self.refused(&path, "cannot list the directory", errno);
        let mut names = Vec::new();
        for dirent in Dir::read_from(&directory).map_err(refused)? {
            let name = dirent.map_err(refused)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        self.open.push((directory, path, names));
        Ok(())
    }

    fn metadata(
        &self,
        path: &EntryPath,
        stat: &Stat,
        link: &[u8],
    ) -> Result<Metadata, SourceError> {
        let xattrs = xattrs(link)
            .map_err(|errno| self.refused(path, "cannot read its extended attributes", errno))?;
        Ok(Metadata {
            mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or_default(),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time {
                sec: stat.st_mtime,
                nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            },
            xattrs,
        })
    }

    /// The entry `name` of `parent`, the innermost open directory.
    fn entry(
        &mut self,
        path: EntryPath,
        name: &[u8],
        stat: Stat,
    ) -> Result<Entry<'_>, SourceError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let key = (stat.st_dev, stat.st_ino);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&key) {
                let body = Body::HardLink(first.clone());
                return Ok(Entry {
                    path,
                    meta: Metadata::default(),
                    body,
                });
            }
            self.links.insert(key, path.clone());
            self.last = Some(key);
        }
        let link = [
            format!("/proc/self/fd/{}/", self.parent_number()).as_bytes(),
            name,
        ]
        .concat();
        let meta = self.metadata(&path, &stat, &link)?;
        let device = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let body = match kind {
            FileType::Directory => {
                self.descend(&path, name, &stat)?;
                Body::Directory
            }
            FileType::RegularFile => {
                let (size, segments) = self.open_file(&path, name, &stat)?;
                Body::File(Data {
                    size,
                    segments,
                    reader: &mut self.reader,
                })
            }
            FileType::Symlink => {
                let target = self
                    .read_link(name)
                    .map_err(|errno| self.refused(&path, "cannot read the link", errno))?;
                Body::Symlink(target.into_bytes().into())
            }
            FileType::CharacterDevice => Body::Char(device.0, device.1),
            FileType::BlockDevice => Body::Block(device.0, device.1),
            FileType::Fifo => Body::Fifo,
            FileType::Socket => Body::Socket,
            _ => return Err(SourceError::new(&self.name, "an unknown kind of file").entry(&path)),
        };
        Ok(Entry { path, meta, body })
    }

    fn parent_number(&self) -> RawFd {
        self.open
            .last()
            .map_or(-1, |(parent, ..)| parent.as_raw_fd())
    }

    fn read_link(&self, name: &[u8]) -> Result<CString, Errno> {
        let (parent, ..) = self.open.last().ok_or(Errno::BADF)?;
        rustix::fs::readlinkat(parent, name, Vec::new())
    }

    fn descend(&mut self, path: &EntryPath, name: &[u8], stat: &Stat) -> Result<(), SourceError> {
        if stat.st_dev != self.root_device && !self.across {
            self.notes.push(format!(
                "{path}: another file system is mounted here; the directory is left empty"
            ));
            return Ok(());
        }
        let Some((parent, ..)) = self.open.last() else {
            return Ok(());
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(parent, name, flags, Mode::empty())
            .map_err(|errno| self.refused(path, "cannot open the directory", errno))?;
        self.enter(directory, path.clone())
    }

    fn open_file(
        &mut self,
        path: &EntryPath,
        name: &[u8],
        stat: &Stat,
    ) -> Result<(u64, Segments), SourceError> {
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        self.reader = Regular::default();
        let Some((parent, ..)) = self.open.last().filter(|_| size > 0) else {
            return Ok((size, Segments::new()));
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::empty())
            .map_err(|errno| self.refused(path, "cannot open the file", errno))?;
        let opened = rustix::fs::fstat(&file)
            .map_err(|errno| self.refused(path, "cannot stat it", errno))?;
        let identity = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_size);
        if identity(&opened) != identity(stat) {
            let problem = "it changed while it was read; bake from a tree that does not change";
            return Err(SourceError::new(&self.name, problem).entry(path));
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
        self.reader = Regular::new(File::from(file), size, blocks)
            .map_err(|errno| self.refused(path, "cannot find its holes", errno))?;
        Ok((size, self.reader.segments().clone()))
    }
}

impl Source for DirectorySource {
    fn next_entry(&mut self) -> Result<Option<Entry<'_>>, SourceError> {
        self.last = None;
        if let Some(root) = self.root.take() {
            return self.root(root).map(Some);
        }
        while let Some((parent, path, names)) = self.open.last_mut() {
            let Some(name) = names.pop() else {
                self.open.pop();
                continue;
            };
            let path = path.join(&name).map_err(|problem| {
                SourceError::new(&self.name, problem.to_string()).raw_entry(&name)
            })?;
            let stat = match rustix::fs::statat(parent, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Temporary files appear and disappear during the walk.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(self.refused(&path, "cannot stat it", errno)),
            };
            return self.entry(path, &name, stat).map(Some);
        }
        Ok(None)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn left_out(&mut self) -> bool {
        if let Some(key) = self.last.take() {
            self.links.remove(&key);
        }
        true
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

/// All extended attributes of the object `link`, without following it.
fn xattrs(link: &[u8]) -> Result<Option<Arc<Xattrs>>, Errno> {
    let link = Path::new(std::ffi::OsStr::from_bytes(link));
    // Most objects have no attributes: nothing clears the buffer.
    let mut list = [MaybeUninit::<u8>::uninit(); 64 << 10];
    let names: &[u8] = match rustix::fs::llistxattr(link, &mut list) {
        Ok((names, _)) => names,
        Err(Errno::NOTSUP | Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let mut found = Xattrs::new();
    let mut value = Vec::new();
    for name in names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        value.resize(64 << 10, 0);
        match rustix::fs::lgetxattr(link, name, &mut value) {
            Ok(len) => found.insert(name.into(), value.get(..len).unwrap_or_default().into()),
            // Deleted meanwhile, or a namespace that this user may list but not read.
            Err(Errno::NODATA | Errno::PERM) => continue,
            Err(errno) => return Err(errno),
        };
    }
    Ok((!found.is_empty()).then(|| Arc::new(found)))
}
