//! The writer of an archive: everything an upper or a layer can hold, exactly.

use std::io::{self, Read, Write};
use std::ops::Range;

use layerfmt::tree::Time;

use super::header::{BLOCK_LEN, Block, Draft};
use super::xattr_name::xattr_key;
use super::{records, sparse};

/// One object, without its bytes.
#[derive(Debug, Clone)]
pub struct ArchiveEntry<'e> {
    /// Its path, relative; empty for the root itself.
    pub path: &'e [u8],
    /// Its kind.
    pub kind: ArchiveKind<'e>,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Extended attributes: names and values.
    pub xattrs: &'e [(Vec<u8>, Vec<u8>)],
}

/// The kind of an object, and the data that only this kind has.
#[derive(Debug, Clone)]
pub enum ArchiveKind<'e> {
    /// A regular file: its length, and the ranges with data if it has holes.
    File(u64, Option<&'e [Range<u64>]>),
    /// Another name of the file written at this path.
    HardLink(&'e [u8]),
    /// A symbolic link to this target.
    Symlink(&'e [u8]),
    /// A directory.
    Directory,
    /// A character device; 0:0 is a whiteout.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// An archive being written.
#[derive(Debug)]
pub struct Archive<W> {
    output: W,
}

impl<W: Write> Archive<W> {
    /// An archive that is written to `output`.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Writes one entry. For a file, `data` gives exactly the bytes of its data ranges.
    ///
    /// # Errors
    /// The output cannot be written; `data` cannot be read or is too short.
    pub fn append(&mut self, entry: &ArchiveEntry<'_>, data: &mut dyn Read) -> io::Result<()> {
        self.append_with(entry, |output, len| {
            io::copy(&mut data.take(len), output).map(|_| ())
        })
    }

    /// Writes one entry. `write` gets the length of the data and writes exactly these bytes.
    ///
    /// # Errors
    /// The output cannot be written; `write` fails or writes another length.
    pub fn append_with(
        &mut self,
        entry: &ArchiveEntry<'_>,
        write: impl FnOnce(&mut dyn Write, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let (map, data_len) = match &entry.kind {
            ArchiveKind::File(len, None) => (Vec::new(), *len),
            ArchiveKind::File(len, Some(ranges)) => {
                let lens = ranges
                    .iter()
                    .map(|range| range.end.saturating_sub(range.start));
                (sparse::leading_map(ranges, *len), lens.sum())
            }
            _ => (Vec::new(), 0),
        };
        let stored = (map.len() as u64).saturating_add(data_len);
        let mut extended = Vec::new();
        let header = header(entry, stored, &mut extended);
        if !extended.is_empty() {
            self.output.write_all(&pax_header(extended.len() as u64))?;
            self.output.write_all(&extended)?;
            self.pad(extended.len() as u64)?;
        }
        self.output.write_all(&header)?;
        self.output.write_all(&map)?;
        let mut counted = Counted {
            output: &mut self.output,
            left: data_len,
        };
        write(&mut counted, data_len)?;
        if counted.left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(stored)
    }

    /// Writes the end of the archive and gives back the output.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK_LEN])?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn pad(&mut self, len: u64) -> io::Result<()> {
        let over = usize::try_from(len % BLOCK_LEN as u64).unwrap_or(0);
        let zeros = [0; BLOCK_LEN];
        let padding = zeros.get(over..).filter(|_| over > 0);
        self.output.write_all(padding.unwrap_or_default())
    }
}

/// The output of one entry's data, which must not be longer than its header says.
struct Counted<'w, W> {
    output: &'w mut W,
    left: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("more data than the entry's length"));
        }
        let count = self.output.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// The header of an entry; `extended` gets the PAX records of fields that do not fit into it.
fn header(entry: &ArchiveEntry<'_>, stored: u64, extended: &mut Vec<u8>) -> Block {
    let mut path = match entry.path {
        b"" => b".".to_vec(),
        path => path.to_vec(),
    };
    let (mut flag, mut link, mut device) = (b'0', &b""[..], (0, 0));
    match &entry.kind {
        ArchiveKind::File(_, None) => {}
        ArchiveKind::File(len, Some(_)) => {
            records::put(extended, b"GNU.sparse.major", b"1");
            records::put(extended, b"GNU.sparse.minor", b"0");
            records::put(extended, b"GNU.sparse.name", &path);
            records::put(extended, b"GNU.sparse.realsize", len.to_string().as_bytes());
            path = sparse_path(&path);
        }
        ArchiveKind::HardLink(target) => (flag, link) = (b'1', target),
        ArchiveKind::Symlink(target) => (flag, link) = (b'2', target),
        ArchiveKind::Char(major, minor) => (flag, device) = (b'3', (*major, *minor)),
        ArchiveKind::Block(major, minor) => (flag, device) = (b'4', (*major, *minor)),
        ArchiveKind::Directory => {
            flag = b'5';
            if !path.ends_with(b"/") {
                path.push(b'/');
            }
        }
        ArchiveKind::Fifo => flag = b'6',
    }
    let mut draft = Draft::new(flag);
    if !draft.path(&path) {
        records::put(extended, b"path", &path);
    }
    if !draft.link_path(link) {
        records::put(extended, b"linkpath", link);
    }
    draft.mode(entry.mode);
    let numbers = [
        (&b"uid"[..], draft.uid(entry.uid), u64::from(entry.uid)),
        (b"gid", draft.gid(entry.gid), entry.gid.into()),
        (b"size", draft.size(stored), stored),
        (b"SCHILY.devmajor", draft.major(device.0), device.0.into()),
        (b"SCHILY.devminor", draft.minor(device.1), device.1.into()),
    ];
    for (key, fits, value) in numbers {
        if !fits {
            records::put(extended, key, value.to_string().as_bytes());
        }
    }
    if !draft.mtime(entry.mtime.sec) || entry.mtime.nsec != 0 {
        let text = records::time_text(entry.mtime);
        records::put(extended, b"mtime", text.as_bytes());
    }
    for (name, value) in entry.xattrs {
        let key = [b"SCHILY.xattr.", xattr_key(name).as_slice()].concat();
        records::put(extended, &key, value);
    }
    draft.finish()
}

/// The name of a sparse file for a reader that knows no sparse files: `DIR/GNUSparseFile.0/NAME`.
fn sparse_path(path: &[u8]) -> Vec<u8> {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    let (directory, name) = path.split_at(slash.map_or(0, |slash| slash + 1));
    [directory, b"GNUSparseFile.0/", name].concat()
}

fn pax_header(len: u64) -> Block {
    let mut draft = Draft::new(b'x');
    draft.path(b"././@PaxHeader");
    draft.mode(0o644);
    draft.uid(0);
    draft.gid(0);
    draft.size(len);
    draft.mtime(0);
    draft.finish()
}
