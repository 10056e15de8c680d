//! The chunk table's codes.

use crate::digest::Digest;

/// The encoding of a chunk's stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Raw bytes without compression.
    Stored,
    /// One zstd frame.
    Zstd,
    /// One zstd frame of the bytes after the x86 call filter ([`crate::x86`]).
    ZstdX86,
}

impl Codec {
    /// The code in the chunk table's `codec` column.
    pub fn code(self) -> u8 {
        match self {
            Codec::Stored => 0,
            Codec::Zstd => 1,
            Codec::ZstdX86 => 2,
        }
    }

    /// The codec of a code, `None` if unknown.
    pub(crate) fn from_code(code: u8) -> Option<Codec> {
        match code {
            0 => Some(Codec::Stored),
            1 => Some(Codec::Zstd),
            2 => Some(Codec::ZstdX86),
            _ => None,
        }
    }
}

/// The file that holds a chunk's stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkFile {
    /// In this file.
    Own,
    /// In the layer with this row of the layer table.
    Borrowed(u32),
}

/// One row of the chunk table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Which file the stored bytes are in.
    pub source: ChunkFile,
    /// Offset in that file, bytes.
    pub offset: u64,
    /// Length of the stored bytes.
    pub stored_len: u32,
    /// Length after decoding, bytes.
    pub raw_len: u32,
    /// The encoding of the stored bytes.
    pub codec: Codec,
    /// BLAKE3 of the stored bytes.
    pub digest: Digest,
}
