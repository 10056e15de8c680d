//! Walks a file system inside an image in name order; all readers of images share it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};
use std::ops::DerefMut;

use layerfmt::limits::FILE_LEN_MAX;
use layerfmt::tree::Metadata;

use super::{Body, Data, Entry, EntryPath, Limits, Segments, Source, SourceError};

/// A file system that can be read, object by object. Objects have numbers; two names with one
/// number are hard links of each other.
pub trait FileSystem {
    /// The number of the root directory.
    fn root(&self) -> u64;

    /// The names in a directory and their objects, without `.` and `..`.
    ///
    /// # Errors
    /// It is damaged, or uses unsupported features.
    fn list(&mut self, directory: u64) -> io::Result<Vec<(Vec<u8>, u64)>>;

    /// One object.
    ///
    /// # Errors
    /// It is damaged, or uses unsupported features.
    fn object(&mut self, number: u64) -> io::Result<WalkObject>;

    /// Bytes of a regular file from `offset`, at least one before its end.
    ///
    /// # Errors
    /// They cannot be read.
    fn read_at(&mut self, number: u64, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Takes the notes on what was read so far, for the report.
    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// One object of a file system.
#[derive(Debug)]
pub struct WalkObject {
    /// Attributes of every object.
    pub meta: Metadata,
    /// Number of names of the object.
    pub links: u32,
    /// Fields of one kind of object.
    pub kind: WalkKind,
}

/// The kind of an object.
#[derive(Debug)]
pub enum WalkKind {
    /// A directory.
    Directory,
    /// A regular file: its length and its data ranges.
    File(u64, Segments),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// The error for a damaged image.
pub(crate) fn damaged(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

/// The error for an unsupported feature of an image.
pub(crate) fn unknown(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, problem.into())
}

/// A walk through a file system, as a source.
#[derive(Debug)]
pub struct Walk<F> {
    name: String,
    started: bool,
    /// Open directories, outermost first, with the names still to come, last one first.
    open: Vec<(EntryPath, Vec<(Vec<u8>, u64)>)>,
    /// Directories found so far: none may be found twice.
    directories: HashSet<u64>,
    /// The first path of a file with several names.
    links: HashMap<u64, EntryPath>,
    last: Option<u64>,
    entries_left: u64,
    bytes_left: u64,
    contents: WalkContents<F>,
}

/// The bytes of the file being read.
#[derive(Debug)]
struct WalkContents<F> {
    file_system: F,
    number: u64,
    /// Segments still to be read, last one first.
    segments: Segments,
}

impl<F: FileSystem> Walk<F> {
    /// All of `file_system`; `name` is for messages.
    pub fn new(name: impl Into<String>, file_system: F, limits: Limits) -> Self {
        Walk {
            name: name.into(),
            started: false,
            open: Vec::new(),
            directories: HashSet::new(),
            links: HashMap::new(),
            last: None,
            entries_left: limits.entries_max,
            bytes_left: limits.expanded_len_max,
            contents: WalkContents {
                file_system,
                number: 0,
                segments: Segments::new(),
            },
        }
    }

    fn wrong(&self, path: &EntryPath, cause: io::Error) -> SourceError {
        SourceError::new(&self.name, "cannot read it")
            .entry(path)
            .cause(cause)
    }

    fn entry(&mut self, path: EntryPath, number: u64) -> Result<Entry<'_>, SourceError> {
        self.entries_left = self.entries_left.checked_sub(1).ok_or_else(|| {
            SourceError::new(&self.name, "more entries than --max-entries allows").entry(&path)
        })?;
        let object = self.contents.file_system.object(number);
        let object = object.map_err(|cause| self.wrong(&path, cause))?;
        if !matches!(object.kind, WalkKind::Directory) && object.links > 1 {
            if let Some(first) = self.links.get(&number) {
                return Ok(Entry {
                    path,
                    meta: Metadata::default(),
                    body: Body::HardLink(first.clone()),
                });
            }
            self.links.insert(number, path.clone());
            self.last = Some(number);
        }
        let body = match object.kind {
            WalkKind::Directory => {
                self.enter(&path, number)?;
                Body::Directory
            }
            WalkKind::File(size, segments) => {
                self.take_room(&path, size, &segments)?;
                self.contents.number = number;
                self.contents.segments = segments.iter().rev().copied().collect();
                Body::File(Data {
                    size,
                    segments,
                    reader: &mut self.contents,
                })
            }
            WalkKind::Symlink(target) => Body::Symlink(target),
            WalkKind::Char(major, minor) => Body::Char(major, minor),
            WalkKind::Block(major, minor) => Body::Block(major, minor),
            WalkKind::Fifo => Body::Fifo,
            WalkKind::Socket => Body::Socket,
        };
        Ok(Entry {
            path,
            meta: object.meta,
            body,
        })
    }

    fn enter(&mut self, path: &EntryPath, number: u64) -> Result<(), SourceError> {
        if !self.directories.insert(number) {
            return Err(self.wrong(path, damaged("the directory has two parents")));
        }
        let names = self.contents.file_system.list(number);
        let mut names = names.map_err(|cause| self.wrong(path, cause))?;
        names.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        self.open.push((path.clone(), names));
        Ok(())
    }

    /// A file's bytes count; holes do not.
    fn take_room(
        &mut self,
        path: &EntryPath,
        size: u64,
        segments: &Segments,
    ) -> Result<(), SourceError> {
        if size > FILE_LEN_MAX {
            return Err(self.wrong(
                path,
                damaged("the file is longer than any file system allows"),
            ));
        }
        let len: u64 = segments.iter().map(|(_, len)| len).sum();
        self.bytes_left = self.bytes_left.checked_sub(len).ok_or_else(|| {
            let problem = "it holds more than --max-bytes allows";
            SourceError::new(&self.name, problem).entry(path)
        })?;
        Ok(())
    }
}

impl<F: FileSystem> Source for Walk<F> {
    fn next_entry(&mut self) -> Result<Option<Entry<'_>>, SourceError> {
        self.last = None;
        if !self.started {
            self.started = true;
            let root = self.contents.file_system.root();
            return self.entry(EntryPath::default(), root).map(Some);
        }
        while let Some((path, names)) = self.open.last_mut() {
            let Some((name, number)) = names.pop() else {
                self.open.pop();
                continue;
            };
            let path = path.join(&name).map_err(|problem| {
                SourceError::new(&self.name, problem.to_string()).raw_entry(&name)
            })?;
            return self.entry(path, number).map(Some);
        }
        Ok(None)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn left_out(&mut self) -> bool {
        if let Some(number) = self.last.take() {
            self.links.remove(&number);
        }
        true
    }

    fn notes(&mut self) -> Vec<String> {
        self.contents.file_system.notes()
    }
}

impl<F: FileSystem> Read for WalkContents<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some((offset, len)) = self.segments.last_mut() {
            if *len == 0 {
                self.segments.pop();
                continue;
            }
            let want = usize::try_from(*len).unwrap_or(usize::MAX);
            let want = want.min(buffer.len());
            let buffer = buffer.get_mut(..want).unwrap_or_default();
            if buffer.is_empty() {
                return Ok(0);
            }
            let count = self.file_system.read_at(self.number, *offset, buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            *offset += count as u64;
            *len = len.saturating_sub(count as u64);
            return Ok(count);
        }
        Ok(0)
    }
}

/// A file found in a file system.
#[derive(Debug)]
pub struct Found {
    number: u64,
    size: u64,
}

impl Found {
    /// All its bytes, holes as zeros.
    pub fn bytes<'f>(&mut self, file_system: &'f mut impl FileSystem) -> impl Read + 'f {
        let (number, size) = (self.number, self.size);
        WalkContents {
            file_system,
            number,
            segments: vec![(0, size)],
        }
    }
}

impl<P: DerefMut<Target: FileSystem>> FileSystem for P {
    fn root(&self) -> u64 {
        (**self).root()
    }

    fn list(&mut self, directory: u64) -> io::Result<Vec<(Vec<u8>, u64)>> {
        (**self).list(directory)
    }

    fn object(&mut self, number: u64) -> io::Result<WalkObject> {
        (**self).object(number)
    }

    fn read_at(&mut self, number: u64, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(number, offset, buffer)
    }

    fn notes(&mut self) -> Vec<String> {
        (**self).notes()
    }
}

/// File systems mounted on names of directories: the directory and the name, and the root there.
pub(crate) type Mounts = BTreeMap<(u64, Vec<u8>), u64>;

/// Puts the roots that are mounted in `directory` over its names, or adds their names.
pub(crate) fn mount_over(names: &mut Vec<(Vec<u8>, u64)>, mounts: &Mounts, directory: u64) {
    let here = mounts.range((directory, Vec::new())..);
    for ((_, name), root) in here.take_while(|((place, _), _)| *place == directory) {
        match names.iter_mut().find(|(known, _)| known == name) {
            Some((_, number)) => *number = *root,
            None => names.push((name.clone(), *root)),
        }
    }
}

/// Finds the regular file at `path`; links on the way are not followed.
///
/// # Errors
/// The image is damaged.
pub(crate) fn find_file(
    file_system: &mut impl FileSystem,
    path: &str,
) -> io::Result<Option<Found>> {
    let mut number = file_system.root();
    for part in path.split('/') {
        if !matches!(file_system.object(number)?.kind, WalkKind::Directory) {
            return Ok(None);
        }
        let names = file_system.list(number)?;
        let found = names.iter().find(|(name, _)| name == part.as_bytes());
        let Some((_, found)) = found else {
            return Ok(None);
        };
        number = *found;
    }
    match file_system.object(number)?.kind {
        WalkKind::File(size, _) => Ok(Some(Found { number, size })),
        _ => Ok(None),
    }
}

/// Finds the directory at `path`; links on the way are not followed.
///
/// # Errors
/// The image is damaged.
pub(crate) fn find_directory(
    file_system: &mut impl FileSystem,
    path: &[String],
) -> io::Result<Option<u64>> {
    let mut number = file_system.root();
    for part in path {
        let names = file_system.list(number)?;
        let found = names.iter().find(|(name, _)| name == part.as_bytes());
        let Some((_, found)) = found else {
            return Ok(None);
        };
        number = *found;
        if !matches!(file_system.object(number)?.kind, WalkKind::Directory) {
            return Ok(None);
        }
    }
    Ok(Some(number))
}
