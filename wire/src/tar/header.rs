//! One 512-byte header block: bytes to fields, and fields to bytes.

/// Length of a tar block.
pub const BLOCK_LEN: usize = 512;

/// One block, as read.
pub type Block = [u8; BLOCK_LEN];

/// A header block whose checksum is right.
#[derive(Debug)]
pub struct Header<'b> {
    block: &'b Block,
}

/// The reason why a block is not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// The checksum does not fit the bytes.
    Checksum,
    /// This field is not a number of tar.
    Number(&'static str),
}

impl std::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HeaderError::Checksum => f.write_str("not a tar header: bad checksum"),
            HeaderError::Number(field) => write!(f, "the header's {field} is not a number"),
        }
    }
}

impl<'b> Header<'b> {
    /// The header in `block`.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn parse(block: &'b Block) -> Result<Self, HeaderError> {
        let stored = number(field(block, place::CHECKSUM)).ok_or(HeaderError::Checksum)?;
        let blank = |(place, byte): (usize, &u8)| match place {
            148..156 => b' ',
            _ => *byte,
        };
        let unsigned: i64 = block.iter().enumerate().map(blank).map(i64::from).sum();
        // Some old programs summed signed characters.
        let signed: i64 = block
            .iter()
            .enumerate()
            .map(blank)
            .map(|byte| i64::from(byte.cast_signed()))
            .sum();
        if stored != unsigned && stored != signed {
            return Err(HeaderError::Checksum);
        }
        Ok(Header { block })
    }

    /// The type flag.
    pub fn kind(&self) -> u8 {
        field(self.block, place::KIND)
            .first()
            .copied()
            .unwrap_or_default()
    }

    /// True for GNU tar's old format: no prefix, but sparse segments.
    pub fn is_gnu(&self) -> bool {
        field(self.block, place::MAGIC) == b"ustar  \0"
    }

    /// True for POSIX ustar: with a prefix.
    fn is_ustar(&self) -> bool {
        field(self.block, place::MAGIC).starts_with(b"ustar\0")
    }

    /// The path, prefix included.
    pub fn path(&self) -> Vec<u8> {
        let name = text(field(self.block, place::NAME));
        let prefix = if self.is_ustar() {
            text(field(self.block, place::PREFIX))
        } else {
            b""
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// The link target.
    pub fn link_path(&self) -> Vec<u8> {
        text(field(self.block, place::LINK)).to_vec()
    }

    /// A numeric field.
    fn number(&self, what: &'static str, place: (usize, usize)) -> Result<i64, HeaderError> {
        number(field(self.block, place)).ok_or(HeaderError::Number(what))
    }

    fn natural(&self, what: &'static str, place: (usize, usize)) -> Result<u64, HeaderError> {
        u64::try_from(self.number(what, place)?).map_err(|_| HeaderError::Number(what))
    }

    fn natural32(&self, what: &'static str, place: (usize, usize)) -> Result<u32, HeaderError> {
        u32::try_from(self.number(what, place)?).map_err(|_| HeaderError::Number(what))
    }

    /// Permission bits; file type bits that some programs add are dropped.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn mode(&self) -> Result<u16, HeaderError> {
        let mode = self.natural("mode", place::MODE)?;
        u16::try_from(mode & 0o7777).map_err(|_| HeaderError::Number("mode"))
    }

    /// The owner.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn uid(&self) -> Result<u32, HeaderError> {
        self.natural32("owner", place::UID)
    }

    /// The group.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn gid(&self) -> Result<u32, HeaderError> {
        self.natural32("group", place::GID)
    }

    /// The length of the data that follows.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn size(&self) -> Result<u64, HeaderError> {
        self.natural("size", place::SIZE)
    }

    /// The modification time, whole seconds.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn mtime(&self) -> Result<i64, HeaderError> {
        self.number("mtime", place::MTIME)
    }

    /// A device's major number.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn major(&self) -> Result<u32, HeaderError> {
        self.natural32("major", place::MAJOR)
    }

    /// A device's minor number.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn minor(&self) -> Result<u32, HeaderError> {
        self.natural32("minor", place::MINOR)
    }

    /// The four sparse segments of an old GNU header.
    pub fn sparse_segments(&self) -> &'b [u8] {
        field(self.block, place::SPARSE_SEGMENTS)
    }

    /// True if blocks with more sparse segments follow.
    pub fn sparse_continues(&self) -> bool {
        field(self.block, place::SPARSE_CONTINUES) != [0]
    }

    /// The whole length of an old GNU sparse file.
    ///
    /// # Errors
    /// The field holds something else.
    pub fn sparse_size(&self) -> Result<u64, HeaderError> {
        self.natural("real size", place::SPARSE_SIZE)
    }
}

/// A header being written: POSIX ustar without a prefix.
#[derive(Debug)]
pub struct Draft {
    block: Block,
}

/// Largest number of an eight-byte octal field.
const OCTAL_7_MAX: u64 = 0o777_7777;
/// Largest number of a twelve-byte octal field.
const OCTAL_11_MAX: u64 = 0o777_7777_7777;

/// Each method returns true if the field holds the value exactly; otherwise a record must.
impl Draft {
    /// A header with this type flag.
    pub fn new(kind: u8) -> Draft {
        let mut draft = Draft {
            block: [0; BLOCK_LEN],
        };
        draft.put(place::KIND, &[kind]);
        draft.put(place::MAGIC, b"ustar\x0000");
        draft.octal(place::MAJOR, 0, OCTAL_7_MAX);
        draft.octal(place::MINOR, 0, OCTAL_7_MAX);
        draft
    }

    /// The path.
    pub fn path(&mut self, path: &[u8]) -> bool {
        self.put(place::NAME, path)
    }

    /// The link target.
    pub fn link_path(&mut self, link: &[u8]) -> bool {
        self.put(place::LINK, link)
    }

    /// Permission bits.
    pub fn mode(&mut self, mode: u32) -> bool {
        self.octal(place::MODE, u64::from(mode & 0o7777), OCTAL_7_MAX)
    }

    /// The owner.
    pub fn uid(&mut self, uid: u32) -> bool {
        self.octal(place::UID, uid.into(), OCTAL_7_MAX)
    }

    /// The group.
    pub fn gid(&mut self, gid: u32) -> bool {
        self.octal(place::GID, gid.into(), OCTAL_7_MAX)
    }

    /// The length of the data that follows.
    pub fn size(&mut self, size: u64) -> bool {
        self.octal(place::SIZE, size, OCTAL_11_MAX)
    }

    /// The modification time, whole seconds.
    pub fn mtime(&mut self, sec: i64) -> bool {
        let since_1970 = u64::try_from(sec);
        self.octal(place::MTIME, since_1970.unwrap_or(0), OCTAL_11_MAX) && since_1970.is_ok()
    }

    /// The major number of a device.
    pub fn major(&mut self, major: u32) -> bool {
        self.octal(place::MAJOR, major.into(), OCTAL_7_MAX)
    }

    /// The minor number of a device.
    pub fn minor(&mut self, minor: u32) -> bool {
        self.octal(place::MINOR, minor.into(), OCTAL_7_MAX)
    }

    /// The header with its checksum.
    pub fn finish(mut self) -> Block {
        self.put(place::CHECKSUM, b"        ");
        let sum: u64 = self.block.iter().map(|byte| u64::from(*byte)).sum();
        self.put(place::CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        self.block
    }

    fn octal(&mut self, (start, len): (usize, usize), value: u64, max: u64) -> bool {
        let digits = len - 1;
        let text = format!("{:0digits$o}", value.min(max));
        self.put((start, len), text.as_bytes());
        value <= max
    }

    fn put(&mut self, (start, len): (usize, usize), bytes: &[u8]) -> bool {
        let field = self.block.iter_mut().skip(start).take(len);
        field.zip(bytes).for_each(|(to, from)| *to = *from);
        bytes.len() <= len
    }
}

/// Start and length of each field of a header.
mod place {
    pub(super) const NAME: (usize, usize) = (0, 100);
    pub(super) const MODE: (usize, usize) = (100, 8);
    pub(super) const UID: (usize, usize) = (108, 8);
    pub(super) const GID: (usize, usize) = (116, 8);
    pub(super) const SIZE: (usize, usize) = (124, 12);
    pub(super) const MTIME: (usize, usize) = (136, 12);
    pub(super) const CHECKSUM: (usize, usize) = (148, 8);
    pub(super) const KIND: (usize, usize) = (156, 1);
    pub(super) const LINK: (usize, usize) = (157, 100);
    pub(super) const MAGIC: (usize, usize) = (257, 8);
    pub(super) const MAJOR: (usize, usize) = (329, 8);
    pub(super) const MINOR: (usize, usize) = (337, 8);
    pub(super) const PREFIX: (usize, usize) = (345, 155);
    /// Four segments of GNU's old format, in the place of the prefix.
    pub(super) const SPARSE_SEGMENTS: (usize, usize) = (386, 96);
    pub(super) const SPARSE_CONTINUES: (usize, usize) = (482, 1);
    pub(super) const SPARSE_SIZE: (usize, usize) = (483, 12);
}

fn field(block: &Block, (start, len): (usize, usize)) -> &[u8] {
    block.get(start..start + len).unwrap_or_default()
}

/// Bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A tar number: octal text, or base 256 with the top bit set (negative with the next one set).
/// An empty field is 0.
pub fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => {
            let negative = first & 0x40 != 0;
            let mut value: i64 = if negative { -1 } else { 0 };
            for (place, &byte) in field.iter().enumerate() {
                let byte = match (place, negative) {
                    (0, true) => byte | 0x80,
                    (0, false) => byte & 0x3f,
                    _ => byte,
                };
                value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
            }
            Some(value)
        }
        _ => {
            let digits = field.trim_ascii_start();
            let digits = digits
                .split(|&byte| byte == 0 || byte == b' ')
                .next()
                .unwrap_or_default();
            digits.iter().try_fold(0i64, |value, &digit| match digit {
                b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
                _ => None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let table: &[(&[u8], Option<i64>)] = &[
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"\0\0\0\0", Some(0)),
            (b"", Some(0)),
            (b"12a\0", None),
            (b"-1\0", None),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(8 << 30)),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                Some(-1),
            ),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00",
                Some(-256),
            ),
            (b"\x80\0\0\x7f\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX),
            ),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, expected) in table {
            assert_eq!(number(field), *expected, "{}", field.escape_ascii());
        }
    }
}
