//! Chunks from local layer files.

use std::cell::RefCell;
use std::ops::Range;

use layerfmt::source::StoredChunks as _;
use layerfmt::{Chunk, ChunkFile, Index, LayerSet};

use super::source::{ChunkSource, SourceError};

thread_local! {
    /// Buffer for stored bytes before they are decoded: as long as the longest chunk that this
    /// thread has read.
    static STORED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Has the stored bytes of `chunk` decoded.
fn with_stored(
    layers: &LayerSet,
    index: &Index,
    chunk: &Chunk,
    decode: impl FnOnce(&[u8]) -> Result<(), layerfmt::FormatError>,
) -> Result<(), SourceError> {
    STORED.with_borrow_mut(|stored| {
        layers
            .read_stored(index, chunk, stored)
            .map_err(|error| SourceError::Unreadable {
                layer: match chunk.source {
                    ChunkFile::Own => String::from("itself"),
                    ChunkFile::Borrowed(row) => index
                        .layer(row)
                        .map_or_else(|| format!("number {row}"), |layer| layer.digest.to_string()),
                },
                source: error.into(),
            })?;
        decode(stored).map_err(|error| SourceError::Unreadable {
            layer: String::from("chunk"),
            source: error.into(),
        })
    })
}

impl ChunkSource for LayerSet {
    fn read_decoded(
        &self,
        index: &Index,
        _id: u32,
        chunk: &Chunk,
        wanted: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        with_stored(self, index, chunk, |stored| {
            layerfmt::decode_chunk_start(chunk, stored, wanted, out)
        })
    }

    fn read_decoded_early(
        &self,
        index: &Index,
        _id: u32,
        chunk: &Chunk,
        wanted: Range<usize>,
        out: &mut Vec<u8>,
        early: &mut dyn FnMut(&[u8]),
    ) -> Result<(), SourceError> {
        with_stored(self, index, chunk, |stored| {
            layerfmt::decode_chunk_early(chunk, stored, wanted, out, early)
        })
    }

    fn read_decoded_into(
        &self,
        index: &Index,
        _id: u32,
        chunk: &Chunk,
        place: &mut [u8],
    ) -> Result<(), SourceError> {
        with_stored(self, index, chunk, |stored| {
            layerfmt::decode_chunk_into(chunk, stored, place)
        })
    }
}
