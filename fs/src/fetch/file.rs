//! Chunks from local layer files.

use std::collections::HashMap;
use std::sync::Arc;

use layerfmt::{Chunk, Digest, Index, Layer, Source};

use super::{ChunkSource, SourceError};

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
}
