//! Sources of stored chunks, which the mount verifies and decodes.
//!
//! A source that only transports bytes has them checked against the index by
//! [`layerfmt::decode_chunk`]; one that verifies fetched and cached bytes itself uses
//! [`layerfmt::decode_verified_chunk`].

use std::ops::Range;

use layerfmt::{Chunk, Index};

/// The reason why stored bytes are unavailable.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The index places the chunk in its own file, which holds no chunks.
    #[error("the index places the chunk in its own file")]
    NotBorrowed,
    /// Reading failed; retrying would not help.
    #[error("layer {layer}: {source}")]
    Unreadable {
        /// Name of the layer.
        layer: String,
        /// The error of the bytes.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The bytes are not on this machine: [`ChunkSource::bring`] gets them.
    #[error("the bytes are not on this machine")]
    Far,
}

/// An unavailable chunk.
#[derive(Debug)]
pub struct Unavailable {
    /// Its number in the index.
    pub chunk: u32,
    /// The error.
    pub error: SourceError,
}

/// Called once, on any thread, when all chunks are local or one is unavailable. It must not wait.
pub type Then = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;

/// Called once, on any thread, with the answer to a question. It must not wait.
pub type OnAnswer = Box<dyn FnOnce(Option<Vec<u8>>) + Send>;

/// A pending fetch. Dropping it ends the wait and releases the received data.
pub trait Pending: Send {}

/// Local data only.
#[derive(Debug)]
pub struct Ready;

impl Pending for Ready {}

/// A source of stored chunks. Called from many threads at once. No method waits for the network.
pub trait ChunkSource: Send + Sync + std::fmt::Debug {
    /// Returns the verified, decoded bytes of chunk `id` of `index` in `out`, of which only the
    /// first `wanted` are needed: a source may leave the rest undecoded.
    ///
    /// # Errors
    /// [`SourceError::Far`]: the bytes must be fetched first. Any other: they are unavailable, or
    /// differ from the
    /// index, and the reader gets EIO.
    fn read_decoded(
        &self,
        index: &Index,
        id: u32,
        chunk: &Chunk,
        wanted: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError>;

    /// All of a chunk as [`ChunkSource::read_decoded`] gives it; calls `early` once, with its bytes
    /// in `wanted`, possibly before the rest is decoded.
    ///
    /// # Errors
    /// The errors of [`ChunkSource::read_decoded`]. `early` may have been called before one.
    fn read_decoded_early(
        &self,
        index: &Index,
        id: u32,
        chunk: &Chunk,
        wanted: Range<usize>,
        out: &mut Vec<u8>,
        early: &mut dyn FnMut(&[u8]),
    ) -> Result<(), SourceError> {
        self.read_decoded(index, id, chunk, chunk.raw_len as usize, out)?;
        if let Some(bytes) = out.get(wanted) {
            early(bytes);
        }
        Ok(())
    }

    /// All of a chunk as [`ChunkSource::read_decoded`] gives it, into `place`, which has the chunk's decoded length.
    ///
    /// # Errors
    /// The errors of [`ChunkSource::read_decoded`].
    fn read_decoded_into(
        &self,
        index: &Index,
        id: u32,
        chunk: &Chunk,
        place: &mut [u8],
    ) -> Result<(), SourceError> {
        let mut decoded = Vec::new();
        self.read_decoded(index, id, chunk, place.len(), &mut decoded)?;
        if decoded.len() != place.len() {
            return Err(SourceError::Unreadable {
                layer: String::from("chunk"),
                source: format!("{} bytes, not {}", decoded.len(), place.len()).into(),
            });
        }
        place.copy_from_slice(&decoded);
        Ok(())
    }

    /// Makes `chunks` (their numbers in the index, and its entries) local, by fetching if necessary, and then
    /// calls `then`, possibly before it returns. They can be read at once until the returned value is dropped.
    /// A source that can rebuild a chunk whose stored bytes are unavailable (one of a boot pack) does so here.
    fn bring(&self, _chunks: &[(u32, Chunk)], then: Then) -> Box<dyn Pending> {
        then(Ok(()));
        Box::new(Ready)
    }

    /// True if the bytes of `chunk` are local according to the indexes of the caches, without
    /// reading them.
    fn is_local(&self, _chunk: &Chunk) -> bool {
        true
    }

    /// True if chunks may have to be fetched, or take long to read: such reads do not run on the
    /// threads that answer other requests.
    fn is_slow(&self) -> bool {
        false
    }
}
