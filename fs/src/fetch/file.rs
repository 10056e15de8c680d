//! Chunks from local layer files.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use layerfmt::{Chunk, Digest, Index, Layer, Source};

use super::{ChunkSource, SourceError};

thread_local! {
    /// Stored bytes on their way to the decoder: as long as the longest chunk this thread has read.
    static STORED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Open layer files by digest.
#[derive(Debug, Default)]
pub struct LayerFiles {
    layers: HashMap<Digest, Arc<Layer>>,
}

impl LayerFiles {
    /// A source for the chunks of `layers`.
    pub fn new(layers: impl IntoIterator<Item = Arc<Layer>>) -> LayerFiles {
        LayerFiles {
            layers: layers
                .into_iter()
                .map(|layer| (layer.digest(), layer))
                .collect(),
        }
    }

    /// The layer named `digest`.
    pub fn get(&self, digest: &Digest) -> Option<&Arc<Layer>> {
        self.layers.get(digest)
    }
}

impl ChunkSource for LayerFiles {
    fn read_stored(
        &self,
        index: &Index,
        chunk: &Chunk,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let Source::Borrowed(row) = chunk.source else {
            return Err(SourceError::NotBorrowed);
        };
        let name = index
            .layer(row)
            .map(|layer| layer.digest)
            .unwrap_or(Digest([0; 32]));
        let layer = self
            .layers
            .get(&name)
            .ok_or(SourceError::UnknownLayer(name))?;
        layer
            .read_stored(chunk, out)
            .map_err(|error| SourceError::Unreadable {
                layer: name.to_string(),
                reason: error.to_string(),
            })
    }

    fn read_decoded_into(
        &self,
        index: &Index,
        _id: u32,
        chunk: &Chunk,
        place: &mut [u8],
    ) -> Result<(), SourceError> {
        STORED.with_borrow_mut(|stored| {
            self.read_stored(index, chunk, stored)?;
            layerfmt::decode_chunk_into(chunk, stored, place).map_err(|error| {
                SourceError::Unreadable {
                    layer: String::from("chunk"),
                    reason: error.to_string(),
                }
            })
        })
    }
}
