//! Chunks in memory: the smallest source.

use layerfmt::{Chunk, Index};
use layerfs::chunks::{ChunkSource, SourceError};

/// The decoded chunks of an index.
#[derive(Debug)]
pub(crate) struct MemoryChunks(Vec<Vec<u8>>);

impl MemoryChunks {
    /// All chunks of `index`, read from `source`.
    pub(crate) fn of(index: &Index, source: &dyn ChunkSource) -> MemoryChunks {
        let all = index.chunks().zip(0..).map(|(chunk, id)| {
            let mut bytes = Vec::new();
            let len = chunk.raw_len as usize;
            source
                .read_decoded(index, id, &chunk, len, &mut bytes)
                .unwrap();
            bytes
        });
        MemoryChunks(all.collect())
    }
}

impl ChunkSource for MemoryChunks {
    fn read_decoded(
        &self,
        _index: &Index,
        id: u32,
        _chunk: &Chunk,
        _wanted: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let bytes = self.0.get(id as usize).ok_or(SourceError::NotBorrowed)?;
        out.clear();
        out.extend_from_slice(bytes);
        Ok(())
    }
}
