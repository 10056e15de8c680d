//! Stored chunks: where the mount gets the bytes it then verifies and decodes.
//!
//! A source that only carries bytes has them checked against the index by [`layerfmt::decode_chunk`]; one that verifies
//! what it fetches and keeps uses [`layerfmt::decode_verified_chunk`].

mod file;
pub mod hot;

use layerfmt::{Chunk, Index};

use self::hot::HotFile;

/// Attributes of the root directory that begin so are questions to the source.
pub const QUESTION_PREFIX: &str = "user.layerfs.";

/// What the source takes a boot report under; see [`ChunkSource::tell`].
pub const BOOT_REPORT: &str = "boot-report";

/// Why stored bytes cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The index says the chunk is in the index's own file, which holds no chunks.
    #[error("the chunk is said to be in the index itself")]
    NotBorrowed,
    /// Reading failed; retrying would not help.
    #[error("layer {layer}: {reason}")]
    Unreadable {
        /// The layer.
        layer: String,
        /// Why.
        reason: String,
    },
}

/// Where stored chunks come from. Called from many threads at once; may block for as long as the
/// bytes may still come.
pub trait ChunkSource: Send + Sync + std::fmt::Debug {
    /// The verified, decoded bytes of chunk `id` of `index` into `out`, of which only the first `wanted` are needed: a
    /// source may leave the rest undecoded. One that can make a chunk from elsewhere when its stored bytes cannot be had
    /// (a boot pack's) does so here.
    ///
    /// # Errors
    /// When the bytes cannot be had and waiting longer will not help, or are not what the index promised: the
    /// reader gets EIO.
    fn read_decoded(
        &self,
        index: &Index,
        id: u32,
        chunk: &Chunk,
        wanted: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError>;

    /// All of a chunk as [`ChunkSource::read_decoded`] gives it, into `place`, which has the chunk's decoded length.
    ///
    /// # Errors
    /// As [`ChunkSource::read_decoded`].
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
                reason: format!("{} bytes, not {}", decoded.len(), place.len()),
            });
        }
        place.copy_from_slice(&decoded);
        Ok(())
    }

    /// `chunks` of the index will be read at once, one after the other: a slow source begins with all of them.
    fn expect(&self, _chunks: &[Chunk]) {}

    /// Whether the bytes of `chunk` are on this machine, without reading them.
    fn is_near(&self, _chunk: &Chunk) -> bool {
        true
    }

    /// What the boot pack has of which files, in the order it arrives; nothing, if there is none.
    fn hot(&self) -> Vec<HotFile> {
        Vec::new()
    }

    /// Nothing is read for now: what is kept for later reads is the machine's to take back.
    fn rest(&self) {}

    /// Whether a read may take long (the network): such reads are not made on the threads that
    /// answer everything else.
    fn is_slow(&self) -> bool {
        false
    }

    /// The answer to a question asked through an attribute of the root directory: `pack.0`, `trace.0`,
    /// `push-trace`. May take long.
    fn answer(&self, _question: &str) -> Option<Vec<u8>> {
        None
    }

    /// Takes what is told by setting an attribute of the root directory: [`BOOT_REPORT`]. Whether it was taken.
    /// May take long.
    fn tell(&self, _what: &str, _value: &[u8]) -> bool {
        false
    }

    /// What `layerfs status` shows under `source`; `None`: nothing worth saying.
    fn status(&self) -> Option<serde_json::Value> {
        None
    }
}
