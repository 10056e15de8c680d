//! Writing a pax archive: everything an upper can hold, exactly.
//!
//! Every entry is a ustar header, preceded by a pax header with whatever does not fit in it:
//! nanoseconds, long names, large numbers, xattrs, and the map of a sparse file (GNU's
//! format 1.0, which GNU tar and libarchive read as well).

use std::io::{self, Read, Write};
use std::ops::Range;

/// The unit of a tar archive.
const BLOCK: usize = 512;
/// Longest name and link target in a ustar header.
const NAME_LEN_MAX: usize = 100;
/// Greatest number in seven octal digits.
const OCTAL_7_MAX: u64 = 0o7_777_777;
/// Greatest number in eleven octal digits.
const OCTAL_11_MAX: u64 = 0o77_777_777_777;

/// One object, without its bytes.
#[derive(Debug, Clone)]
pub struct Entry<'e> {
    /// Its path, relative, without a leading `./`; empty for the root itself.
    pub path: &'e [u8],
    /// The kind of the object.
    pub kind: Kind<'e>,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// User ID of the owner.
    pub uid: u32,
    /// ID of the group.
    pub gid: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes: names and values.
    pub xattrs: &'e [(Vec<u8>, Vec<u8>)],
}

/// The kind of an object.
#[derive(Debug, Clone)]
pub enum Kind<'e> {
    /// A regular file: its length, and its data ranges if it has holes.
    File(u64, Option<&'e [Range<u64>]>),
    /// Another name of the file written at this path.
    HardLink(&'e [u8]),
    /// A symbolic link to this.
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
    /// Writes to here.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Writes one entry. For a file, `data` gives exactly the bytes of its data ranges.
    ///
    /// # Errors
    /// The output cannot be written; `data` cannot be read or is too short.
    pub fn append(&mut self, entry: &Entry<'_>, data: &mut dyn Read) -> io::Result<()> {
        let (map, data_len) = match &entry.kind {
            Kind::File(len, None) => (Vec::new(), *len),
            Kind::File(_, Some(ranges)) => (
                sparse_map(ranges),
                ranges.iter().map(|range| range.end - range.start).sum(),
            ),
            _ => (Vec::new(), 0),
        };
        let stored = (map.len() as u64).saturating_add(data_len);
        let mut records = Records::default();
        let header = header(entry, stored, &mut records);
        if !records.bytes.is_empty() {
            self.output
                .write_all(&pax_header(records.bytes.len() as u64))?;
            self.output.write_all(&records.bytes)?;
            self.pad(records.bytes.len() as u64)?;
        }
        self.output.write_all(&header)?;
        self.output.write_all(&map)?;
        let copied = io::copy(&mut data.take(data_len), &mut self.output)?;
        if copied != data_len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(stored)
    }

    /// Writes the end of the archive and gives back the output.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        Ok(self.output)
    }

    fn pad(&mut self, len: u64) -> io::Result<()> {
        let over = usize::try_from(len % BLOCK as u64).unwrap_or(0);
        let zeros = [0; BLOCK];
        self.output
            .write_all(zeros.get(over..).filter(|_| over > 0).unwrap_or_default())
    }
}

/// The records of a pax header: `length key=value\n`, the length counting itself.
#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
}

impl Records {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        // space, '=', line feed
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        self.bytes.extend_from_slice(len.to_string().as_bytes());
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(key);
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value);
        self.bytes.push(b'\n');
    }

    fn put_text(&mut self, key: &str, value: &str) {
        self.put(key.as_bytes(), value.as_bytes());
    }
}

/// GNU 1.0: the number of ranges, then offset and length of each, one decimal per line, padded
/// to a block, before the data itself.
fn sparse_map(ranges: &[Range<u64>]) -> Vec<u8> {
    let mut map = format!("{}\n", ranges.len()).into_bytes();
    for range in ranges {
        map.extend_from_slice(format!("{}\n{}\n", range.start, range.end - range.start).as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

fn header(entry: &Entry<'_>, stored: u64, records: &mut Records) -> [u8; BLOCK] {
    let mut path = if entry.path.is_empty() {
        b".".to_vec()
    } else {
        entry.path.to_vec()
    };
    let (mut kind, mut link, mut device) = (b'0', &b""[..], (0, 0));
    match &entry.kind {
        Kind::File(_, None) => {}
        Kind::File(len, Some(_)) => {
            records.put_text("GNU.sparse.major", "1");
            records.put_text("GNU.sparse.minor", "0");
            records.put(b"GNU.sparse.name", &path);
            records.put_text("GNU.sparse.realsize", &len.to_string());
            path = [b"GNUSparseFile.0/", path.as_slice()].concat();
        }
        Kind::HardLink(target) => (kind, link) = (b'1', target),
        Kind::Symlink(target) => (kind, link) = (b'2', target),
        Kind::Char(major, minor) => (kind, device) = (b'3', (*major, *minor)),
        Kind::Block(major, minor) => (kind, device) = (b'4', (*major, *minor)),
        Kind::Directory => {
            kind = b'5';
            path.push(b'/');
        }
        Kind::Fifo => kind = b'6',
    }
    let mut block = Block::new(kind);
    if path.len() > NAME_LEN_MAX {
        records.put(b"path", &path);
    }
    block.bytes(0, NAME_LEN_MAX, &path);
    if link.len() > NAME_LEN_MAX {
        records.put(b"linkpath", link);
    }
    block.bytes(157, NAME_LEN_MAX, link);
    let numbers = [
        ("uid", 108, u64::from(entry.uid), OCTAL_7_MAX, 7),
        ("gid", 116, u64::from(entry.gid), OCTAL_7_MAX, 7),
        ("size", 124, stored, OCTAL_11_MAX, 11),
    ];
    for (name, place, value, most, digits) in numbers {
        if value > most {
            records.put_text(name, &value.to_string());
        }
        block.octal(place, digits, value.min(most));
    }
    block.octal(100, 7, u64::from(entry.mode & 0o7777));
    block.octal(329, 7, u64::from(device.0));
    block.octal(337, 7, u64::from(device.1));
    block.octal(
        136,
        11,
        u64::try_from(entry.mtime.0).unwrap_or(0).min(OCTAL_11_MAX),
    );
    if entry.mtime.1 != 0 || !(0..=OCTAL_11_MAX as i64).contains(&entry.mtime.0) {
        records.put_text("mtime", &decimal_time(entry.mtime));
    }
    for (name, value) in entry.xattrs {
        records.put(
            &[b"SCHILY.xattr.", wire::pax::xattr_key(name).as_slice()].concat(),
            value,
        );
    }
    block.sum()
}

/// Seconds with nine decimals; before 1970 the fraction counts the other way.
fn decimal_time((seconds, nanos): (i64, u32)) -> String {
    if seconds >= 0 || nanos == 0 {
        return format!("{seconds}.{nanos:09}");
    }
    let (whole, fraction) = (seconds + 1, 1_000_000_000 - nanos);
    format!("-{}.{fraction:09}", whole.unsigned_abs())
}

fn pax_header(len: u64) -> [u8; BLOCK] {
    let mut block = Block::new(b'x');
    block.bytes(0, NAME_LEN_MAX, b"././@PaxHeader");
    block.octal(100, 7, 0o644);
    block.octal(108, 7, 0);
    block.octal(116, 7, 0);
    block.octal(124, 11, len);
    block.octal(136, 11, 0);
    block.sum()
}

/// A header block; places and widths are POSIX's.
struct Block([u8; BLOCK]);

impl Block {
    fn new(kind: u8) -> Self {
        let mut block = Self([0; BLOCK]);
        block.bytes(148, 8, b"        ");
        block.bytes(156, 1, &[kind]);
        block.bytes(257, 8, b"ustar\x0000");
        block
    }

    /// Writes as much of `bytes` as the field holds.
    fn bytes(&mut self, place: usize, width: usize, bytes: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(place).take(width).zip(bytes) {
            *to = *from;
        }
    }

    fn octal(&mut self, place: usize, digits: usize, value: u64) {
        self.bytes(place, digits, format!("{value:0digits$o}").as_bytes());
    }

    fn sum(mut self) -> [u8; BLOCK] {
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.bytes(148, 8, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}
