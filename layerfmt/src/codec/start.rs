//! Decodes only the first part of a chunk: zstd decodes block by block, each of at most 128 KiB (64
//! in a bake) and usually 30.

use zstd::zstd_safe::{DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::{decode_verified_chunk, make_room, verify_chunk, with_decoder};
use crate::error::{FormatError, Result};
use crate::layout::chunk::{Chunk, Codec};
use crate::x86;

/// Stored bytes given to the decoder at once: blocks end somewhere in them.
const PART_LEN: usize = 8 << 10;

/// Verifies all stored bytes of a chunk, then decodes at least its first `wanted` bytes into `out`
/// (cleared first), or all of it if it is shorter or uncompressed. The length of `out` is the
/// decoded length.
///
/// # Errors
/// The errors of [`super::decode_chunk`]. Damage in bytes that are not decoded is not detected.
pub fn decode_chunk_start(
    chunk: &Chunk,
    stored: &[u8],
    wanted: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    verify_chunk(chunk, stored)?;
    let raw_len = chunk.raw_len as usize;
    let unsure_len = match chunk.codec {
        Codec::Stored => raw_len,
        Codec::Zstd => 0,
        Codec::ZstdX86 => x86::OPERAND_LEN,
    };
    let wanted = wanted.saturating_add(unsure_len);
    if wanted >= raw_len {
        return decode_verified_chunk(chunk, stored, out);
    }
    let corrupt = |what| FormatError::corrupt("chunk", chunk.offset, what);
    make_room(raw_len, out).map_err(corrupt)?;
    decompress_start(stored, wanted, out)
        .map_err(|code| corrupt(format!("not a zstd frame: {}", get_error_name(code))))?;
    if out.len() < wanted || out.len() > raw_len {
        let what = format!("decodes to {} bytes, not to {raw_len}", out.len());
        return Err(corrupt(what));
    }
    if chunk.codec == Codec::ZstdX86 {
        x86::decode(out);
        // The filter cannot invert a call whose operand continues past the last decoded byte.
        if out.len() < raw_len {
            out.truncate(out.len() - unsure_len);
        }
    }
    Ok(())
}

/// Decodes blocks of one frame into the free space of `out`, until `wanted` bytes are decoded or
/// the frame ends.
fn decompress_start(
    stored: &[u8],
    wanted: usize,
    out: &mut Vec<u8>,
) -> std::result::Result<(), usize> {
    with_decoder(|decoder| {
        decoder.reset(ResetDirective::SessionOnly)?;
        // Decodes directly into the buffer.
        decoder.set_parameter(DParameter::StableOutBuffer(true))?;
        let mut to = OutBuffer::around(out);
        for part in stored.chunks(PART_LEN) {
            let mut from = InBuffer::around(part);
            while from.pos() < part.len() {
                let before = (from.pos(), to.pos());
                let left = decoder.decompress_stream(&mut to, &mut from)?;
                let is_stuck = before == (from.pos(), to.pos());
                if left == 0 || to.pos() >= wanted || is_stuck {
                    return Ok(());
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Compressor, Effort};
    use crate::digest::Digest;
    use crate::error::ErrorKind;
    use crate::layout::chunk::ChunkFile;

    /// 256 KiB of which each part is another text, with calls everywhere.
    fn raw() -> Vec<u8> {
        (0..40_000u32)
            .flat_map(|i| {
                let [a, b, c, ..] = (i * i % 7919 + i / 5000).to_le_bytes();
                [0xe8, a, b, c, 0, 7, a]
            })
            .take(256 << 10)
            .collect()
    }

    fn chunk(raw: &[u8], x86: bool) -> (Chunk, Vec<u8>) {
        let mut stored = Vec::new();
        let codec = Compressor::new(Effort::level(15))
            .unwrap()
            .compress(raw, x86, &mut stored)
            .unwrap();
        let chunk = Chunk {
            source: ChunkFile::Own,
            offset: 1024,
            stored_len: stored.len() as u32,
            raw_len: raw.len() as u32,
            codec,
            digest: Digest::of(&stored),
        };
        (chunk, stored)
    }

    #[test]
    fn the_start_is_what_the_whole_begins_with_and_not_more_than_needed() {
        let raw = raw();
        let mut out = vec![9; 17];
        for x86 in [false, true] {
            let (chunk, stored) = chunk(&raw, x86);
            for wanted in (1..raw.len())
                .step_by(4095)
                .chain([raw.len() - 1, raw.len()])
            {
                decode_chunk_start(&chunk, &stored, wanted, &mut out).unwrap();
                assert!(out.len() >= wanted, "{} of {wanted}", out.len());
                assert!(out == raw[..out.len()], "{wanted}, x86 {x86}");
            }
            decode_chunk_start(&chunk, &stored, 4096, &mut out).unwrap();
            assert!(out.len() <= 128 << 10, "{} bytes", out.len());
        }
        let (chunk, stored) = chunk(&raw, false);
        // After an error the next decoding still gives the right bytes.
        let torn = Chunk {
            stored_len: 20_000.min(stored.len() as u32 / 2),
            digest: Digest::of(&stored[..20_000.min(stored.len() / 2)]),
            ..chunk
        };
        let cut = &stored[..torn.stored_len as usize];
        let error = decode_chunk_start(&torn, cut, raw.len() - 1, &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        decode_chunk_start(&chunk, &stored, 4096, &mut out).unwrap();
        assert_eq!(out, raw[..out.len()]);
    }

    #[test]
    fn stored_chunks_come_whole_and_lies_are_refused() {
        let raw = raw();
        let mut out = Vec::new();
        let plain = Chunk {
            stored_len: raw.len() as u32,
            codec: Codec::Stored,
            digest: Digest::of(&raw),
            ..chunk(&raw, false).0
        };
        decode_chunk_start(&plain, &raw, 4096, &mut out).unwrap();
        assert_eq!(out, raw);
        let (honest, stored) = chunk(&raw, false);
        for raw_len in [5000, raw.len() as u32 / 2] {
            let liar = Chunk { raw_len, ..honest };
            let error = decode_chunk_start(&liar, &stored, 4096, &mut Vec::new());
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt, "{raw_len}");
        }
        let mut flipped = stored.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let error = decode_chunk_start(&honest, &flipped, 1, &mut out).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::DigestMismatch,
            "the end counts too"
        );
    }
}
