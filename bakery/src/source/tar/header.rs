//! One 512-byte tar header block, parsed into fields.

/// Length of a tar block.
pub const BLOCK_LEN: usize = 512;

/// One block, as read.
pub(crate) type Block = [u8; BLOCK_LEN];

/// A header block whose checksum is right.
#[derive(Debug)]
pub(crate) struct Header<'b> {
    block: &'b Block,
}

/// The reason why a block is not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
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
    pub(crate) fn parse(block: &'b Block) -> Result<Self, HeaderError> {
        let stored = number(field(block, 148, 8)).ok_or(HeaderError::Checksum)?;
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
    pub(crate) fn kind(&self) -> u8 {
        self.block.get(156).copied().unwrap_or_default()
    }

    /// True for GNU tar's old format: no prefix, but sparse pieces.
    pub(crate) fn is_gnu(&self) -> bool {
        field(self.block, 257, 8) == b"ustar  \0"
    }

    /// True for POSIX ustar: with a prefix.
    fn is_ustar(&self) -> bool {
        field(self.block, 257, 6) == b"ustar\0"
    }

    /// The path, prefix included.
    pub(crate) fn path(&self) -> Vec<u8> {
        let name = text(field(self.block, 0, 100));
        let prefix = if self.is_ustar() {
            text(field(self.block, 345, 155))
        } else {
            b""
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// The link target.
    pub(crate) fn link_path(&self) -> Vec<u8> {
        text(field(self.block, 157, 100)).to_vec()
    }

    /// A numeric field.
    fn number(&self, what: &'static str, start: usize, len: usize) -> Result<i64, HeaderError> {
        number(field(self.block, start, len)).ok_or(HeaderError::Number(what))
    }

    fn natural(&self, what: &'static str, start: usize, len: usize) -> Result<u64, HeaderError> {
        u64::try_from(self.number(what, start, len)?).map_err(|_| HeaderError::Number(what))
    }

    fn natural32(&self, what: &'static str, start: usize, len: usize) -> Result<u32, HeaderError> {
        u32::try_from(self.number(what, start, len)?).map_err(|_| HeaderError::Number(what))
    }

    /// Permission bits; file type bits that some programs add are dropped.
    pub(crate) fn mode(&self) -> Result<u16, HeaderError> {
        let mode = self.natural("mode", 100, 8)?;
        u16::try_from(mode & 0o7777).map_err(|_| HeaderError::Number("mode"))
    }

    pub(crate) fn uid(&self) -> Result<u32, HeaderError> {
        self.natural32("owner", 108, 8)
    }

    pub(crate) fn gid(&self) -> Result<u32, HeaderError> {
        self.natural32("group", 116, 8)
    }

    pub(crate) fn size(&self) -> Result<u64, HeaderError> {
        self.natural("size", 124, 12)
    }

    pub(crate) fn mtime(&self) -> Result<i64, HeaderError> {
        self.number("mtime", 136, 12)
    }

    pub(crate) fn device(&self) -> Result<(u32, u32), HeaderError> {
        Ok((
            self.natural32("major", 329, 8)?,
            self.natural32("minor", 337, 8)?,
        ))
    }

    /// The four sparse pieces of an old GNU header.
    pub(crate) fn sparse_pieces(&self) -> &'b [u8] {
        field(self.block, 386, 96)
    }

    /// True if blocks with more sparse pieces follow.
    pub(crate) fn sparse_continues(&self) -> bool {
        self.block.get(482).is_some_and(|&flag| flag != 0)
    }

    /// The whole length of an old GNU sparse file.
    pub(crate) fn sparse_size(&self) -> Result<u64, HeaderError> {
        self.natural("real size", 483, 12)
    }
}

fn field(block: &Block, start: usize, len: usize) -> &[u8] {
    block.get(start..start + len).unwrap_or_default()
}

/// Bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A tar number: octal text, or base 256 with the top bit set (negative with the next one set).
/// An empty field is 0.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
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
