//! Walks an upper directory.
//!
//! Everything is opened relative to its directory and without following links. The upper is in use
//! meanwhile: disappeared files are skipped, files of changed length are cut or padded to the first
//! length, and both are reported.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use layerfmt::tree::Time;
use layerfmt::writer::ContentHasher;
use wire::secrets;
use wire::tar::{Archive, ArchiveEntry, ArchiveKind};

use super::content::{Content, ExactReader};
use super::{Found, PushPlan, Tally, marks};

/// Maximum nesting; each level keeps one descriptor open.
const DEPTH_MAX: usize = 400;

/// The reason why an upper could not be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalkError {
    /// Something in the upper cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The affected path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Directories nested too deep.
    #[error("{0} is nested deeper than {DEPTH_MAX} directories: leave it out with --exclude")]
    TooDeep(PathBuf),
    /// The receiving side failed.
    #[error("cannot send: {0}")]
    Output(io::Error),
}

/// A walk through one upper.
#[derive(Debug)]
pub(crate) struct Walk<'w> {
    root: PathBuf,
    plan: &'w PushPlan,
    device: u64,
    links: HashMap<u64, Vec<u8>>,
    tally: Tally,
}

struct Level {
    directory: OwnedFd,
    names: std::vec::IntoIter<CString>,
    path_len: usize,
    /// A directory that is sent only if an entry in it is sent, because it was not selected itself.
    waits: Option<Stat>,
}

impl<'w> Walk<'w> {
    /// Opens the root of an upper.
    ///
    /// # Errors
    /// It is not a readable directory.
    pub(crate) fn new(root: &Path, plan: &'w PushPlan) -> Result<Self, WalkError> {
        let stat = rustix::fs::stat(root).map_err(|error| unreadable(root, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(unreadable(root, Errno::NOTDIR));
        }
        Ok(Self {
            root: root.to_owned(),
            plan,
            device: stat.st_dev,
            links: HashMap::new(),
            tally: Tally::default(),
        })
    }

    /// Walks it once, in order of names, and writes it to the archive if there is one.
    ///
    /// # Errors
    /// An entry cannot be read, or the archive not be written.
    pub(crate) fn run<W: Write>(
        mut self,
        mut archive: Option<&mut Archive<W>>,
        step: &mut dyn FnMut(&Found<'_>),
    ) -> Result<Tally, WalkError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.root, flags, Mode::empty());
        let root = root.map_err(|error| unreadable(&self.root, error))?;
        let mut path: Vec<u8> = Vec::new();
        let stat = rustix::fs::fstat(&root).map_err(|error| unreadable(&self.root, error))?;
        let is_asked = self.plan.selection.takes(b"", true);
        if is_asked {
            self.entry(&root, c".", &path, &stat, &mut archive, step)?;
        }
        let waits = (!is_asked).then_some(stat);
        let mut levels = vec![self.level(root, &path, waits)?];
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
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let is_asked = self.plan.selection.takes(&path, is_directory);
            if is_asked {
                self.parents(&mut levels, &path, &mut archive, step)?;
                let Some(level) = levels.last() else { break };
                self.entry(&level.directory, &name, &path, &stat, &mut archive, step)?;
            }
            if is_directory && self.plan.selection.reaches_into(&path) {
                if depth >= DEPTH_MAX {
                    return Err(WalkError::TooDeep(self.full(&path)));
                }
                let Some(level) = levels.last() else { break };
                let flags = flags | OFlags::NOFOLLOW;
                let opened =
                    rustix::fs::openat(&level.directory, name.as_c_str(), flags, Mode::empty());
                let waits = (!is_asked).then_some(stat);
                match opened {
                    Ok(directory) => levels.push(self.level(directory, &path, waits)?),
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.tally.skipped += 1,
                    Err(error) => return Err(unreadable(&self.full(&path), error)),
                }
            }
        }
        Ok(self.tally)
    }

    /// Sends the parent directories of a selected path: they may be new, renamed or opaque.
    fn parents<W: Write>(
        &mut self,
        levels: &mut [Level],
        path: &[u8],
        archive: &mut Option<&mut Archive<W>>,
        step: &mut dyn FnMut(&Found<'_>),
    ) -> Result<(), WalkError> {
        for level in levels {
            if let Some(stat) = level.waits.take() {
                let path = path.get(..level.path_len).unwrap_or_default();
                self.entry(&level.directory, c".", path, &stat, archive, step)?;
            }
        }
        Ok(())
    }

    fn level(
        &self,
        directory: OwnedFd,
        path: &[u8],
        waits: Option<Stat>,
    ) -> Result<Level, WalkError> {
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
            waits,
        })
    }

    /// The kind of an entry; `None` if it is not sent.
    fn look(
        &mut self,
        directory: &OwnedFd,
        name: &CStr,
        path: &[u8],
        step: &mut dyn FnMut(&Found<'_>),
    ) -> Result<Option<Stat>, WalkError> {
        let mut leave = |why: &str| step(&Found::left_out(path, why));
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => {
                self.tally.skipped += 1;
                leave("vanished");
                return Ok(None);
            }
            Err(error) => return Err(unreadable(&self.full(path), error)),
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let is_directory = file_type == FileType::Directory;
        let selection = &self.plan.selection;
        let is_wanted =
            selection.takes(path, is_directory) || (is_directory && selection.reaches_into(path));
        if !is_wanted {
            return Ok(None);
        }
        let excludes = match selection.names(path, is_directory) {
            true => &self.plan.own_excludes,
            false => &self.plan.excludes,
        };
        // The directory stays open, so the walk can continue.
        if let Some(pattern) = excludes.pattern_naming(path, is_directory) {
            self.tally.excluded += 1;
            leave(pattern);
            return Ok(None);
        }
        if stat.st_dev != self.device {
            self.tally.skipped += 1;
            leave("another file system");
            return Ok(None);
        }
        if file_type == FileType::Socket {
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
                    step(&Found::left_out(path, "vanished"));
                    return Ok(());
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let xattrs = marks::xattrs(directory, name).map_err(failed)?;
        let object = WalkedObject {
            path,
            stat,
            file_type,
            first,
            content,
            xattrs,
        };
        if let Some(archive) = archive {
            self.write(archive, directory, name, &object)?;
        }
        let content = object.content.as_ref();
        let data_len = content.map_or(0, Content::data_len);
        if stat.st_nlink > 1 && file_type != FileType::Directory && object.first.is_none() {
            self.links.insert(stat.st_ino, path.to_vec());
        }
        self.tally.entries += 1;
        self.tally.data_len += data_len;
        self.tally.whiteouts +=
            u64::from(file_type == FileType::CharacterDevice && stat.st_rdev == 0);
        let head = content.map(Content::head).unwrap_or_default();
        step(&Found {
            path,
            kind: marks::change_kind(file_type, stat, &object.xattrs),
            len: data_len,
            left_out: None,
            suspicion: secrets::suspicion_of_change(path, &head),
        });
        Ok(())
    }

    fn write<W: Write>(
        &mut self,
        archive: &mut Archive<W>,
        directory: &OwnedFd,
        name: &CStr,
        object: &WalkedObject<'_>,
    ) -> Result<(), WalkError> {
        let failed = |error: io::Error| WalkError::Read {
            path: self.full(object.path),
            source: error,
        };
        let target = match object.file_type {
            FileType::Symlink => rustix::fs::readlinkat(directory, name, Vec::new())
                .map_err(|error| failed(error.into()))?
                .into_bytes(),
            _ => Vec::new(),
        };
        let stat = object.stat;
        let mut entry = ArchiveEntry {
            path: object.path,
            kind: object.kind(&target),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time {
                sec: stat.st_mtime,
                nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            xattrs: &object.xattrs,
        };
        let content = object.content.as_ref();
        let mut data = ExactReader::new(content);
        // The bytes of a metadata-only copy are those of the base in any case.
        let is_told = self.plan.is_listing && !marks::is_metacopy(&object.xattrs);
        let appended = match content.filter(|content| is_told && content.len() > 0) {
            Some(content) => {
                let line = listed(content, &mut data).map_err(failed)?;
                entry.kind = ArchiveKind::File(line.len() as u64, None);
                archive.append(&entry, &mut line.as_bytes())
            }
            None => archive.append(&entry, &mut data),
        };
        appended.map_err(WalkError::Output)?;
        self.tally.changed += u64::from(data.changed());
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

/// One object of the upper as it was found.
struct WalkedObject<'o> {
    path: &'o [u8],
    stat: &'o Stat,
    file_type: FileType,
    /// The name under which the same object was sent already.
    first: Option<Vec<u8>>,
    content: Option<Content>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl WalkedObject<'_> {
    fn kind<'k>(&'k self, target: &'k [u8]) -> ArchiveKind<'k> {
        let (major, minor) = (
            rustix::fs::major(self.stat.st_rdev),
            rustix::fs::minor(self.stat.st_rdev),
        );
        match (self.file_type, &self.first) {
            (_, Some(first)) => ArchiveKind::HardLink(first),
            (FileType::Directory, None) => ArchiveKind::Directory,
            (FileType::Symlink, None) => ArchiveKind::Symlink(target),
            (FileType::CharacterDevice, None) => ArchiveKind::Char(major, minor),
            (FileType::BlockDevice, None) => ArchiveKind::Block(major, minor),
            (FileType::Fifo, None) => ArchiveKind::Fifo,
            _ => self
                .content
                .as_ref()
                .map_or(ArchiveKind::File(0, None), |content| {
                    ArchiveKind::File(content.len(), content.holes())
                }),
        }
    }
}

/// A file's line in a listing: length and content digest.
fn listed(content: &Content, data: &mut ExactReader<'_>) -> io::Result<String> {
    let digest = ContentHasher::of(content.len(), &content.segments(), data);
    let digest = digest.map_err(io::Error::other)?;
    Ok(format!("{} {digest}\n", content.len()))
}
