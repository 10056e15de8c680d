//! Compresses the raw bytes of a chunk to its stored bytes.

use crate::codec::Compressor;
use crate::digest::Digest;
use crate::layout::chunk::{Chunk, Codec};
use crate::writer::Options;

/// The stored bytes of a chunk from its raw bytes, if one of the efforts of a bake or that of a
/// recompression gives exactly these.
pub fn stored_again(chunk: &Chunk, raw: &[u8]) -> Option<Vec<u8>> {
    if chunk.codec == Codec::Stored {
        return (Digest::of(raw) == chunk.digest).then(|| raw.to_vec());
    }
    let is_x86 = chunk.codec == Codec::ZstdX86;
    Options::efforts(raw.len()).into_iter().find_map(|effort| {
        let mut stored = Vec::new();
        let mut compressor = Compressor::new(effort).ok()?;
        let codec = compressor.compress(raw, is_x86, &mut stored).ok()?;
        (codec == chunk.codec && Digest::of(&stored) == chunk.digest).then_some(stored)
    })
}
