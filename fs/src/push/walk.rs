//! Going through an upper directory.
//!
//! Everything is opened relative to its directory and without following links. The upper is
//! in use while we read it: what vanishes is left out, what changes its length is cut or filled
//! to the length first seen, and both are told.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::{self, Write};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::archive::{Archive, Entry, Kind};
use super::content::{Content, Steady};
use super::pattern::Pattern;

/// Deepest nesting; each level keeps one descriptor open.
const DEPTH_MAX: usize = 400;
/// Longest list of names, and longest value, of extended attributes; the kernel's own bound.
const XATTR_LEN_MAX: usize = 64 << 10;

/// Why an upper could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// Something in the upper cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Directories nested too deep.
    #[error("{0} is nested deeper than {DEPTH_MAX} directories: leave it out with --exclude")]
    TooDeep(PathBuf),
    /// The receiving side failed.
    #[error("cannot send: {0}")]
    Output(io::Error),
}

/// One entry, for whoever watches.
#[derive(Debug, Clone)]
pub struct Found<'f> {
    /// Its path in the upper.
    pub path: &'f [u8],
    /// Bytes of data it brings.
    pub len: u64,
    /// Why it is not sent, if it is not.
    pub left_out: Option<&'static str>,
}

/// What was in an upper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries sent.
    pub entries: u64,
    /// Whiteouts among them.
    pub whiteouts: u64,
    /// Bytes of file data, without holes.
    pub data_len: u64,
    /// Entries left out because of a pattern.
    pub excluded: u64,
    /// Entries left out because they vanished or cannot be sent (sockets, other file systems).
    pub skipped: u64,
    /// Files that changed their length while they were read.
    pub changed: u64,
}

/// A walk through one upper.
#[derive(Debug)]
pub struct Walk<'w> {
    root: PathBuf,
    excludes: &'w [Pattern],
    device: u64,
    links: HashMap<u64, Vec<u8>>,
    tally: Tally,
}

struct Level {
    directory: OwnedFd,
    names: std::vec::IntoIter<CString>,
    path_len: usize,
}

impl<'w> Walk<'w> {
    /// Looks at the root of an upper.
    ///
    /// # Errors
    /// It is no directory we can read.
    pub fn new(root: &Path, excludes: &'w [Pattern]) -> Result<Self, WalkError> {
        let stat = rustix::fs::stat(root).map_err(|error| unreadable(root, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(unreadable(root, Errno::NOTDIR));
        }
        Ok(Self {
            root: root.to_owned(),
            excludes,
            device: stat.st_dev,
            links: HashMap::new(),
            tally: Tally::default(),
        })
    }

    /// Goes through it once, in order of names, and writes it down if there is an archive.
    ///
    /// # Errors
    /// Something cannot be read, or the archive not be written.
    pub fn run<W: Write>(
        mut self,
        mut archive: Option<&mut Archive<W>>,
        step: &mut dyn FnMut(&Found<'_>),
    ) -> Result<Tally, WalkError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.root, flags, Mode::empty());
        let root = root.map_err(|error| unreadable(&self.root, error))?;
        let mut path: Vec<u8> = Vec::new();
        let stat = rustix::fs::fstat(&root).map_err(|error| unreadable(&self.root, error))?;
        self.entry(&root, c".", &path, &stat, &mut archive, step)?;
        let mut levels = vec![self.level(root, &path)?];
        loop {
            let depth = levels.len();
            let Some(level) = levels.last_mut() else {
                break;
            };
            path.truncate(level.path_len);
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            let Some(stat) = self.look(&level.directory, &name, &path, step)? else {
                continue;
            };
            self.entry(&level.directory, &name, &path, &stat, &mut archive, step)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                if depth >= DEPTH_MAX {
                    return Err(WalkError::TooDeep(self.full(&path)));
                }
                let flags = flags | OFlags::NOFOLLOW;
                let opened =
                    rustix::fs::openat(&level.directory, name.as_c_str(), flags, Mode::empty());
                match opened {
                    Ok(directory) => levels.push(self.level(directory, &path)?),
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.tally.skipped += 1,
                    Err(error) => return Err(unreadable(&self.full(&path), error)),
                }
            }
        }
        Ok(self.tally)
    }

    fn level(&self, directory: OwnedFd, path: &[u8]) -> Result<Level, WalkError> {
        let failed = |error| unreadable(&self.full(path), error);
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        Ok(Level {
            directory,
            names: names.into_iter(),
            path_len: path.len(),
        })
    }

    /// What an entry is; `None` if it is not to be sent.
    fn look(
        &mut self,
        directory: &OwnedFd,
        name: &CStr,
        path: &[u8],
        step: &mut dyn FnMut(&Found<'_>),
    ) -> Result<Option<Stat>, WalkError> {
        let mut leave = |left_out| {
            step(&Found {
                path,
                len: 0,
                left_out: Some(left_out),
            })
        };
        if self.excludes.iter().any(|pattern| pattern.matches(path)) {
            self.tally.excluded += 1;
            leave("excluded");
            return Ok(None);
        }
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => {
                self.tally.skipped += 1;
                leave("vanished");
                return Ok(None);
            }
            Err(error) => return Err(unreadable(&self.full(path), error)),
        };
        if stat.st_dev != self.device {
            self.tally.skipped += 1;
            leave("another file system");
            return Ok(None);
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
            self.tally.skipped += 1;
            leave("a socket");
            return Ok(None);
        }
        Ok(Some(stat))
    }

    fn entry<W: Write>(
        &mut self,
        directory: &OwnedFd,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
        archive: &mut Option<&mut Archive<W>>,
        step: &mut dyn FnMut(&Found<'_>),
    ) -> Result<(), WalkError> {
        let failed = |error: io::Error| WalkError::Read {
            path: self.root.join(bytes_path(path)),
            source: error,
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let first = (stat.st_nlink > 1 && file_type != FileType::Directory)
            .then(|| self.links.get(&stat.st_ino).cloned())
            .flatten();
        let mut content = None;
        if file_type == FileType::RegularFile && first.is_none() {
            match Content::open(directory, name, stat) {
                Ok(opened) => content = Some(opened),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.tally.skipped += 1;
                    step(&Found {
                        path,
                        len: 0,
                        left_out: Some("vanished"),
                    });
                    return Ok(());
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let data_len = content.as_ref().map_or(0, Content::data_len);
        if let Some(archive) = archive {
            let target = match file_type {
                FileType::Symlink => rustix::fs::readlinkat(directory, name, Vec::new())
                    .map_err(|error| failed(error.into()))?
                    .into_bytes(),
                _ => Vec::new(),
            };
            let xattrs = xattrs(directory, name).map_err(failed)?;
            let entry = Entry {
                path,
                kind: kind(file_type, stat, first.as_deref(), &target, content.as_ref()),
                mode: stat.st_mode & 0o7777,
                uid: stat.st_uid,
                gid: stat.st_gid,
                mtime: (
                    stat.st_mtime,
                    u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
                ),
                xattrs: &xattrs,
            };
            let mut data = Steady::new(content.as_ref());
            archive
                .append(&entry, &mut data)
                .map_err(WalkError::Output)?;
            self.tally.changed += u64::from(data.changed());
        }
        if stat.st_nlink > 1 && file_type != FileType::Directory && first.is_none() {
            self.links.insert(stat.st_ino, path.to_vec());
        }
        self.tally.entries += 1;
        self.tally.data_len += data_len;
        self.tally.whiteouts +=
            u64::from(file_type == FileType::CharacterDevice && stat.st_rdev == 0);
        step(&Found {
            path,
            len: data_len,
            left_out: None,
        });
        Ok(())
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.root.join(bytes_path(path))
    }
}

fn bytes_path(path: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(path))
}

fn unreadable(path: &Path, error: Errno) -> WalkError {
    WalkError::Read {
        path: path.to_owned(),
        source: error.into(),
    }
}

fn kind<'k>(
    file_type: FileType,
    stat: &Stat,
    first: Option<&'k [u8]>,
    target: &'k [u8],
    content: Option<&'k Content>,
) -> Kind<'k> {
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    match (file_type, first) {
        (_, Some(first)) => Kind::HardLink(first),
        (FileType::Directory, None) => Kind::Directory,
        (FileType::Symlink, None) => Kind::Symlink(target),
        (FileType::CharacterDevice, None) => Kind::Char(major, minor),
        (FileType::BlockDevice, None) => Kind::Block(major, minor),
        (FileType::Fifo, None) => Kind::Fifo,
        _ => content.map_or(Kind::File(0, None), |content| {
            Kind::File(content.len(), content.holes())
        }),
    }
}

/// The extended attributes of an entry, without following a link. There is no call for that
/// relative to a directory, so the path goes through the directory's own descriptor.
fn xattrs(directory: &OwnedFd, name: &CStr) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    let mut names = vec![0; XATTR_LEN_MAX];
    let len = match rustix::fs::llistxattr(path.as_slice(), &mut names) {
        Ok(len) => len,
        Err(Errno::NOENT | Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    names.truncate(len);
    let mut found = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; XATTR_LEN_MAX];
        match rustix::fs::lgetxattr(path.as_slice(), name, &mut value) {
            Ok(len) => {
                value.truncate(len);
                found.push((name.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::NOENT | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_unstable();
    Ok(found)
}
