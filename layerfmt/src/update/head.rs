//! The preamble and the head of an update pack.

use std::ops::Range;

use crate::codec::{decode_frame, encode_small};
use crate::digest::{DIGEST_LEN, Digest};
use crate::error::{ErrorKind, FormatError, Result};
use crate::limits;

/// Length of the preamble, bytes.
pub const PREAMBLE_LEN: usize = 24;
/// Length of the fixed part of the raw head, bytes.
pub const HEADER_LEN: usize = 160;
/// The codec of a unit: one zstd frame with a prefix.
pub const UNIT_CODEC_ZSTD: u32 = 1;
/// The codec of a unit: a script, then one zstd frame; compressed data in the prefix and in the
/// content is in its raw form.
pub const UNIT_CODEC_REMADE: u32 = 2;
/// The codec of a unit: a script without compressed data, then one zstd frame.
pub const UNIT_CODEC_RUNS: u32 = 3;
/// A zstd frame with a prefix; prefix and content have passed the address filter.
pub const UNIT_CODEC_X86: u32 = 4;

const MAGIC: [u8; 8] = *b"\x8fUPACK\r\n";
const VERSION: u32 = 1;
const NAME: &str = "update pack";
/// Number of `u32` columns in the table of units.
const UNIT_COLUMNS: usize = 4;
/// Number of `u32` columns in the table of spans.
const SPAN_COLUMNS: usize = 3;

/// The first bytes of an update pack. They hold only bounded lengths; no digest covers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// Length of the signed record after the preamble, bytes.
    pub record_len: u32,
    /// Length of the stored head after the record, bytes.
    pub head_len: u32,
}

impl Preamble {
    /// Encodes the preamble.
    pub fn encode(&self) -> [u8; PREAMBLE_LEN] {
        let mut out = [0; PREAMBLE_LEN];
        let words = [VERSION, self.record_len, self.head_len, 0];
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        for (slot, byte) in out.iter_mut().zip(MAGIC.into_iter().chain(bytes)) {
            *slot = byte;
        }
        out
    }

    /// Decodes the preamble from the first bytes of `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::NotALayer`], [`ErrorKind::Unsupported`], [`ErrorKind::Corrupt`],
    /// [`ErrorKind::Limit`].
    pub fn decode(bytes: &[u8]) -> Result<Preamble> {
        if bytes.get(..MAGIC.len()) != Some(&MAGIC) || bytes.len() < PREAMBLE_LEN {
            let what = "not an update pack: the magic number is missing";
            return Err(FormatError::new(ErrorKind::NotALayer, NAME, 0, what));
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            let what = format!("update pack version {version}, this reader knows {VERSION}");
            return Err(FormatError::new(ErrorKind::Unsupported, NAME, 8, what));
        }
        if u32_at(bytes, 20) != 0 {
            return Err(corrupt(20, "reserved bytes are not zero"));
        }
        let preamble = Preamble {
            record_len: u32_at(bytes, 12),
            head_len: u32_at(bytes, 16),
        };
        if preamble.record_len > limits::UPDATE_RECORD_LEN_MAX
            || preamble.head_len > limits::UPDATE_HEAD_LEN_MAX
        {
            let what = "the record or the head is too long";
            return Err(FormatError::limit(NAME, 12, what));
        }
        Ok(preamble)
    }

    /// The position of the stored head in the file.
    pub fn head(&self) -> Range<u64> {
        let start = PREAMBLE_LEN as u64 + u64::from(self.record_len);
        start..start + u64::from(self.head_len)
    }
}

/// The frame of the new INDEX, with the old INDEX as its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexFrame {
    /// Length of the frame, bytes. The frame is the first after the head.
    pub stored_len: u32,
    /// Digest of the frame.
    pub digest: Digest,
    /// Length of the new raw INDEX, bytes.
    pub raw_len: u64,
    /// Digest of the new raw INDEX.
    pub raw_digest: Digest,
}

/// A part of a prefix: some bytes of a chunk of the old index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// Row of the old chunk table.
    pub chunk: u32,
    /// Position in the chunk's raw bytes.
    pub offset: u32,
    /// Length of the span, bytes.
    pub len: u32,
}

/// A chunk of the new index that a unit makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeChunk {
    /// Digest of the chunk's stored bytes: its name in the new index.
    pub digest: Digest,
    /// Digest of the chunk's raw bytes.
    pub raw_digest: Digest,
}

/// Chunks of the new index in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Length of the frame, bytes.
    pub stored_len: u32,
    /// Digest of the frame.
    pub digest: Digest,
    /// [`UNIT_CODEC_ZSTD`], [`UNIT_CODEC_REMADE`], [`UNIT_CODEC_RUNS`] or [`UNIT_CODEC_X86`]. A reader ignores a
    /// unit with another codec.
    pub codec: u32,
    /// The chunks that it makes, in the order of their bytes.
    pub made: Vec<MadeChunk>,
    /// The parts of its prefix, in order.
    pub prefix: Vec<Span>,
}

/// The contents of the head of an update pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateHead {
    /// Digest of the old index file.
    pub from: Digest,
    /// Digest of the new index file.
    pub to: Digest,
    /// The frame of the new INDEX, if the pack has one.
    pub index: Option<IndexFrame>,
    /// Number of hot units, at the beginning of `units`: a boot reads their chunks first.
    pub hot_count: u32,
    /// The units, in the order of their frames.
    pub units: Vec<Unit>,
}

impl Unit {
    /// True if this reader can apply the unit.
    pub fn is_supported(&self) -> bool {
        let is_remade = cfg!(feature = "remake") && self.codec == UNIT_CODEC_REMADE;
        let others = [UNIT_CODEC_ZSTD, UNIT_CODEC_RUNS, UNIT_CODEC_X86];
        is_remade || others.contains(&self.codec)
    }

    /// True if applying the unit takes much processor time: compressed data is made again.
    pub fn is_costly(&self) -> bool {
        self.codec == UNIT_CODEC_REMADE
    }
}

impl UpdateHead {
    /// Encodes the head; returns its stored bytes and the length of its raw bytes.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn encode(&self) -> Result<(Vec<u8>, u32)> {
        let raw = self.to_bytes();
        let raw_len = u32::try_from(raw.len()).unwrap_or(u32::MAX);
        Ok((encode_small(&raw)?, raw_len))
    }

    /// The raw bytes of the head.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        let frame = self.index.unwrap_or(IndexFrame {
            stored_len: 0,
            digest: Digest::default(),
            raw_len: 0,
            raw_digest: Digest::default(),
        });
        raw.extend_from_slice(&self.from.0);
        raw.extend_from_slice(&self.to.0);
        raw.extend_from_slice(&frame.raw_len.to_le_bytes());
        raw.extend_from_slice(&frame.stored_len.to_le_bytes());
        raw.extend_from_slice(&0u32.to_le_bytes());
        raw.extend_from_slice(&frame.digest.0);
        raw.extend_from_slice(&frame.raw_digest.0);
        let made = || self.units.iter().flat_map(|unit| &unit.made);
        let spans = || self.units.iter().flat_map(|unit| &unit.prefix);
        let mut word = |value: usize| {
            let value = u32::try_from(value).unwrap_or(u32::MAX);
            raw.extend_from_slice(&value.to_le_bytes());
        };
        word(self.units.len());
        word(made().count());
        word(spans().count());
        word(self.hot_count as usize);
        let units = &self.units;
        units.iter().for_each(|unit| word(unit.stored_len as usize));
        units.iter().for_each(|unit| word(unit.codec as usize));
        units.iter().for_each(|unit| word(unit.made.len()));
        units.iter().for_each(|unit| word(unit.prefix.len()));
        spans().for_each(|span| word(span.chunk as usize));
        spans().for_each(|span| word(span.offset as usize));
        spans().for_each(|span| word(span.len as usize));
        for unit in units {
            raw.extend_from_slice(&unit.digest.0);
        }
        for made in made() {
            raw.extend_from_slice(&made.digest.0);
        }
        for made in made() {
            raw.extend_from_slice(&made.raw_digest.0);
        }
        raw
    }

    /// Verifies the stored bytes of a head against the digest in the signed record, then parses
    /// them.
    ///
    /// # Errors
    /// [`ErrorKind::DigestMismatch`] before the decoding; the first broken rule of `docs/FORMAT.md`
    /// §18.
    pub fn decode(stored: &[u8], raw_len: u32, digest: &Digest) -> Result<UpdateHead> {
        if Digest::of(stored) != *digest {
            let what = "the head does not have the promised digest";
            return Err(FormatError::new(ErrorKind::DigestMismatch, NAME, 0, what));
        }
        if raw_len > limits::UPDATE_HEAD_LEN_MAX {
            return Err(FormatError::limit(NAME, 0, "the head is too long"));
        }
        let raw = decode_frame(stored, raw_len as usize).map_err(|what| corrupt(0, what))?;
        UpdateHead::from_bytes(&raw)
    }

    /// Parses the raw bytes of a head. They must be verified; [`UpdateHead::decode`] verifies them.
    ///
    /// # Errors
    /// The first broken rule of `docs/FORMAT.md` §18.
    pub fn from_bytes(raw: &[u8]) -> Result<UpdateHead> {
        if raw.len() < HEADER_LEN {
            return Err(corrupt(raw.len(), "the head is shorter than its header"));
        }
        let count = |at| u32_at(raw, at) as usize;
        let (units, made, spans) = (count(144), count(148), count(152));
        let hot_count = u32_at(raw, 156);
        let words = UNIT_COLUMNS * units + SPAN_COLUMNS * spans;
        let digests = units + 2 * made;
        if raw.len() != HEADER_LEN + 4 * words + DIGEST_LEN * digests {
            return Err(corrupt(144, "the counts do not give the head's length"));
        }
        if u32_at(raw, 76) != 0 {
            return Err(corrupt(76, "reserved bytes are not zero"));
        }
        if hot_count as usize > units {
            return Err(corrupt(156, "more hot units than units"));
        }
        let tables = HeadTables {
            raw,
            units,
            made,
            spans,
        };
        Ok(UpdateHead {
            from: digest_at(raw, 0),
            to: digest_at(raw, 32),
            index: index_frame(raw)?,
            hot_count,
            units: tables.read()?,
        })
    }

    /// Length of all frames, bytes.
    pub fn frames_len(&self) -> u64 {
        let units = self.units.iter().map(|unit| u64::from(unit.stored_len));
        units.sum::<u64>() + self.index_len()
    }

    /// Length of the frame of the INDEX; 0 without one.
    pub fn index_len(&self) -> u64 {
        self.index.map_or(0, |frame| u64::from(frame.stored_len))
    }
}

fn index_frame(raw: &[u8]) -> Result<Option<IndexFrame>> {
    let frame = IndexFrame {
        raw_len: u64::from(u32_at(raw, 64)) | u64::from(u32_at(raw, 68)) << 32,
        stored_len: u32_at(raw, 72),
        digest: digest_at(raw, 80),
        raw_digest: digest_at(raw, 112),
    };
    if frame.stored_len == 0 {
        let rest = raw.get(64..144).unwrap_or_default();
        if rest.iter().any(|byte| *byte != 0) {
            return Err(corrupt(
                64,
                "the pack has no INDEX, but a field about it is not zero",
            ));
        }
        return Ok(None);
    }
    if frame.raw_len > limits::UPDATE_INDEX_WINDOW_LEN_MAX {
        return Err(FormatError::limit(NAME, 64, "the INDEX is too long"));
    }
    if u64::from(frame.stored_len) > limits::UPDATE_INDEX_WINDOW_LEN_MAX {
        return Err(FormatError::limit(
            NAME,
            72,
            "the frame of the INDEX is too long",
        ));
    }
    Ok(Some(frame))
}

/// The tables of a raw head. Its length matches their counts.
struct HeadTables<'r> {
    raw: &'r [u8],
    units: usize,
    made: usize,
    spans: usize,
}

impl HeadTables<'_> {
    fn word(&self, column: usize) -> u32 {
        u32_at(self.raw, HEADER_LEN + 4 * column)
    }

    fn read(&self) -> Result<Vec<Unit>> {
        let digests = HEADER_LEN + 4 * (UNIT_COLUMNS * self.units + SPAN_COLUMNS * self.spans);
        let digest = |row: usize| digest_at(self.raw, digests + DIGEST_LEN * row);
        let (mut made_at, mut span_at) = (0, 0);
        let mut units = Vec::with_capacity(self.units);
        for row in 0..self.units {
            let column = |column: usize| self.word(column * self.units + row);
            let (made, spans) = (column(2) as usize, column(3) as usize);
            if made == 0 || made > self.made - made_at || spans > self.spans - span_at {
                return Err(corrupt(row, "a unit has no chunk, or more than there are"));
            }
            let unit = Unit {
                stored_len: column(0),
                codec: column(1),
                digest: digest(row),
                made: (made_at..made_at + made)
                    .map(|at| MadeChunk {
                        digest: digest(self.units + at),
                        raw_digest: digest(self.units + self.made + at),
                    })
                    .collect(),
                prefix: (span_at..span_at + spans).map(|at| self.span(at)).collect(),
            };
            if unit.stored_len == 0 || unit.stored_len > limits::UPDATE_UNIT_LEN_MAX {
                return Err(corrupt(row, "a unit's frame is empty or too long"));
            }
            made_at += made;
            span_at += spans;
            units.push(unit);
        }
        if (made_at, span_at) != (self.made, self.spans) {
            return Err(corrupt(144, "chunks or spans that belong to no unit"));
        }
        Ok(units)
    }

    fn span(&self, at: usize) -> Span {
        let start = UNIT_COLUMNS * self.units;
        let column = |column: usize| self.word(start + column * self.spans + at);
        Span {
            chunk: column(0),
            offset: column(1),
            len: column(2),
        }
    }
}

#[cold]
pub(super) fn corrupt(at: usize, what: impl Into<std::borrow::Cow<'static, str>>) -> FormatError {
    FormatError::corrupt(NAME, at as u64, what)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn digest_at(bytes: &[u8], at: usize) -> Digest {
    let bytes = bytes.get(at..at + DIGEST_LEN);
    Digest(bytes.and_then(|b| b.try_into().ok()).unwrap_or_default())
}
