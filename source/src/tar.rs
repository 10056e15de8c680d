//! Tar archives as a stream of entries: ustar, GNU and PAX, with every spelling of sparse files,
//! long names, extended attributes and ACLs of GNU tar, libarchive and Python.
//!
//! If formats disagree the stricter reading wins: data that cannot be read exactly is an error that
//! names the entry, never a guess.

mod body;
mod pax;

use std::io::Read;
use std::sync::Arc;

use layerfmt::limits::FILE_LEN_MAX;
use layerfmt::tree::{Metadata, Time};

pub use wire::tar::header::BLOCK_LEN;
use wire::tar::header::{Block, Header, HeaderError};
use wire::tar::stream::Stream;

use self::pax::Attributes;
use super::limits::HEADER_DATA_LEN_MAX;
use super::{Body, Data, Entry, EntryPath, Limits, Source, SourceError, acl};

/// A tar archive being read.
pub struct Tar<R> {
    name: String,
    stream: Stream<R>,
    globals: Attributes,
    entries_left: u64,
    limits: Limits,
    ended: bool,
    /// The writer escapes nothing in the names of attributes.
    raw_names: bool,
    /// True after a dump of GNU tar's incremental form.
    is_incremental: bool,
}

impl<R> std::fmt::Debug for Tar<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tar")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Values from the extension headers that precede an entry's own header.
#[derive(Default)]
struct Announced {
    attributes: Attributes,
    has_pax: bool,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// The fields of an entry from all of its headers.
struct Merged {
    path: EntryPath,
    /// The name ends with a slash, which in old formats is the only mark of a directory.
    ends_with_slash: bool,
    link_path: Vec<u8>,
    meta: Metadata,
    device: (u32, u32),
    /// Bytes of data in the archive.
    stored_len: u64,
    /// Offset of the header.
    offset: u64,
}

/// True if an archive begins with these bytes: a header with a correct checksum.
#[must_use]
pub(crate) fn begins_archive(head: &[u8]) -> bool {
    head.first_chunk::<BLOCK_LEN>()
        .is_some_and(|block| Header::parse(block).is_ok())
}

impl<R: Read> Tar<R> {
    /// The archive `input`, already decompressed; `name` is for messages.
    pub fn new(name: impl Into<String>, input: R, limits: Limits) -> Self {
        Tar {
            name: name.into(),
            stream: Stream::new(input, limits.expanded_len_max),
            globals: Attributes::default(),
            entries_left: limits.entries_max,
            limits,
            ended: false,
            raw_names: false,
            is_incremental: false,
        }
    }

    /// The same archive, of a writer that escapes nothing in the names of attributes, such as
    /// `sqfs2tar`.
    #[must_use]
    pub(crate) fn with_raw_names(self) -> Self {
        Tar {
            raw_names: true,
            ..self
        }
    }

    /// The input itself.
    pub fn input_mut(&mut self) -> &mut R {
        self.stream.input_mut()
    }

    fn error(&self, problem: impl Into<String>) -> SourceError {
        SourceError::new(&self.name, problem)
    }

    fn unreadable(&self, what: &str, cause: std::io::Error) -> SourceError {
        let offset = self.stream.offset();
        if cause.kind() == std::io::ErrorKind::UnexpectedEof {
            return self
                .error(format!("the archive is truncated inside {what}"))
                .at(offset);
        }
        self.error(format!("cannot read {what}"))
            .at(offset)
            .cause(cause)
    }

    /// The next header block; `None` at the end of the archive.
    fn header_block(&mut self) -> Result<Option<Block>, SourceError> {
        let block = self
            .stream
            .block_or_end()
            .map_err(|cause| self.unreadable("a header", cause))?;
        let Some(block) = block else {
            return Err(self
                .error("the archive is truncated: its end mark is missing")
                .at(self.stream.offset()));
        };
        if block.iter().any(|&byte| byte != 0) {
            return Ok(Some(block));
        }
        // The end of the archive: the rest is read so that a decompressor can check its own end.
        let end = self.stream.offset();
        let more = self
            .stream
            .drain()
            .map_err(|cause| self.unreadable("the end", cause))?;
        self.ended = true;
        match more {
            0 => Ok(None),
            _ => {
                let problem = "the archive continues after its end mark (were several joined with \
                               cat?); read them one by one, or join them with `tar --concatenate`";
                Err(self.error(problem).at(end))
            }
        }
    }

    /// The data of a header that describes another one.
    fn header_data(&mut self, len: u64) -> Result<Vec<u8>, SourceError> {
        let offset = self.stream.offset();
        if len > HEADER_DATA_LEN_MAX {
            return Err(self
                .error(format!(
                    "an extended header of more than {HEADER_DATA_LEN_MAX} bytes"
                ))
                .at(offset));
        }
        self.stream.open(len);
        let mut data = Vec::new();
        let read = self
            .stream
            .read_to_end(&mut data)
            .and_then(|_| self.stream.skip());
        read.map_err(|cause| self.unreadable("an extended header", cause))?;
        Ok(data)
    }

    /// Reads up to the next header of an object.
    fn announced(&mut self) -> Result<Option<(Announced, Block, u64)>, SourceError> {
        let mut announced = Announced {
            attributes: self.globals.clone(),
            ..Announced::default()
        };
        // A writer needs four at most: global, extended, long name, long link.
        for _ in 0..16 {
            let offset = self.stream.offset();
            let Some(block) = self.header_block()? else {
                if announced.has_pax || announced.long_path.is_some() {
                    return Err(self
                        .error("an extended header without its entry")
                        .at(offset));
                }
                return Ok(None);
            };
            let wrong = |problem: HeaderError| self.error(problem.to_string()).at(offset);
            let header = Header::parse(&block).map_err(wrong)?;
            let (kind, len) = (header.kind(), header.size().map_err(wrong)?);
            match kind {
                b'x' | b'X' => {
                    let data = self.header_data(len)?;
                    announced.has_pax = true;
                    let read = announced.attributes.extend(&data);
                    read.map_err(|problem| self.error(problem).at(offset))?;
                }
                b'g' => {
                    let data = self.header_data(len)?;
                    let read = self.globals.extend(&data);
                    read.map_err(|problem| self.error(problem).at(offset))?;
                    announced.attributes = self.globals.clone();
                }
                b'L' => announced.long_path = Some(self.long_name(len)?),
                b'K' => announced.long_link = Some(self.long_name(len)?),
                // A volume label.
                b'V' => {
                    self.header_data(len)?;
                }
                _ => return Ok(Some((announced, block, offset))),
            }
        }
        Err(self
            .error("too many extended headers in a row")
            .at(self.stream.offset()))
    }

    fn long_name(&mut self, len: u64) -> Result<Vec<u8>, SourceError> {
        let mut name = self.header_data(len)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// One entry's fields, from all its headers.
    fn merged(
        &self,
        announced: &mut Announced,
        header: &Header<'_>,
        offset: u64,
    ) -> Result<Merged, SourceError> {
        let pax = &mut announced.attributes;
        pax.name_xattrs(self.raw_names).map_err(|problem| {
            let problem = format!("an attribute's name: {problem}");
            self.error(problem).at(offset)
        })?;
        let path = pax.sparse.name.take().or(pax.path.take());
        let raw = path.or(announced.long_path.take());
        let raw = raw.unwrap_or_else(|| header.path());
        let path = EntryPath::parse(&raw)
            .map_err(|problem| self.error(problem.to_string()).raw_entry(&raw).at(offset))?;
        let fields = || -> Result<_, HeaderError> {
            let mtime = match pax.mtime {
                Some(time) => time,
                None => Time {
                    sec: header.mtime()?,
                    nsec: 0,
                },
            };
            let uid = pax.uid.map_or_else(|| header.uid(), Ok)?;
            let gid = pax.gid.map_or_else(|| header.gid(), Ok)?;
            let mode = if header.kind() == b'2' {
                0o777
            } else {
                header.mode()?
            };
            let size = pax.size.map_or_else(|| header.size(), Ok)?;
            let device = if matches!(header.kind(), b'3' | b'4') {
                let (major, minor) = pax.device;
                let major = major.map_or_else(|| header.major(), Ok)?;
                (major, minor.map_or_else(|| header.minor(), Ok)?)
            } else {
                (0, 0)
            };
            Ok((mode, uid, gid, mtime, size, device))
        };
        let (mode, uid, gid, mtime, stored_len, device) =
            fields().map_err(|problem| self.error(problem.to_string()).entry(&path).at(offset))?;
        let xattrs = std::mem::take(&mut pax.xattrs);
        let list = xattrs.get(&b"system.posix_acl_access"[..]);
        let mode = match list.and_then(|list| acl::permissions(list)) {
            Some(permissions) => mode & 0o7000 | permissions,
            None => mode,
        };
        let xattrs = (!xattrs.is_empty()).then(|| Arc::new(xattrs));
        let link_path = pax.link_path.take().or(announced.long_link.take());
        Ok(Merged {
            path,
            ends_with_slash: raw.last() == Some(&b'/'),
            link_path: link_path.unwrap_or_else(|| header.link_path()),
            meta: Metadata {
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            },
            device,
            stored_len,
            offset,
        })
    }
}

impl<R: Read> Source for Tar<R> {
    fn next_entry(&mut self) -> Result<Option<Entry<'_>>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        self.stream
            .skip()
            .map_err(|cause| self.unreadable("a file's data", cause))?;
        let Some((mut announced, block, offset)) = self.announced()? else {
            return Ok(None);
        };
        self.entries_left = self.entries_left.checked_sub(1).ok_or_else(|| {
            self.error(format!("more than {} entries", self.limits.entries_max))
                .at(offset)
        })?;
        let header = Header::parse(&block).map_err(|e| self.error(e.to_string()).at(offset))?;
        let merged = self.merged(&mut announced, &header, offset)?;
        let body = match header.kind() {
            b'0' | 0 | b'7' if merged.ends_with_slash && merged.stored_len == 0 => Body::Directory,
            b'0' | 0 | b'7' | b'S' if merged.ends_with_slash => {
                let problem = "the name is that of a directory (it ends with a slash), but the entry has data";
                return Err(self.error(problem).entry(&merged.path).at(offset));
            }
            b'0' | 0 | b'7' | b'S' => {
                let (size, segments) = self.file(&announced, &block, &merged)?;
                if size > FILE_LEN_MAX {
                    let problem = "the file is longer than any file system allows";
                    return Err(self.error(problem).entry(&merged.path).at(offset));
                }
                Body::File(Data {
                    size,
                    segments,
                    reader: &mut self.stream,
                })
            }
            b'1' => Body::HardLink(self.hard_link(&announced, &merged)?),
            b'2' => Body::Symlink(self.symlink(&merged)?),
            b'3' => Body::Char(merged.device.0, merged.device.1),
            b'4' => Body::Block(merged.device.0, merged.device.1),
            b'6' => Body::Fifo,
            b'5' | b'D' => {
                // GNU's incremental dumps list the names inside.
                self.is_incremental |= header.kind() == b'D';
                self.stream.open(merged.stored_len);
                Body::Directory
            }
            b'M' => {
                let problem = "a piece of a multi-volume archive; join the volumes first";
                return Err(self.error(problem).entry(&merged.path).at(offset));
            }
            kind => {
                let kind = kind.escape_ascii();
                let problem = format!("entries of type \"{kind}\" are unknown");
                return Err(self.error(problem).entry(&merged.path).at(offset));
            }
        };
        Ok(Some(Entry {
            path: merged.path,
            meta: merged.meta,
            body,
        }))
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn notes(&mut self) -> Vec<String> {
        let incremental = std::mem::take(&mut self.is_incremental).then(|| {
            "an incremental archive (tar --listed-incremental): its files are read, its deletions are not"
                .to_owned()
        });
        incremental.into_iter().collect()
    }
}
