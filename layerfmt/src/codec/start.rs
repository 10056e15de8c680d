//! Decodes only the first part of a chunk, or that part first: zstd decodes block by block, each of
//! at most 128 KiB (64 in a bake) and usually 30.

use std::ops::Range;

use zstd::zstd_safe::{
    DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, WriteBuf, get_error_name,
};

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

/// Verifies and decodes a whole chunk into `out` (cleared first) like [`super::decode_chunk`], and calls `early`
/// with its bytes in `wanted`, if it has them, once these are decoded and before the rest is.
///
/// # Errors
/// The errors of [`super::decode_chunk`]. `early` may have been called before one.
pub fn decode_chunk_early(
    chunk: &Chunk,
    stored: &[u8],
    wanted: Range<usize>,
    out: &mut Vec<u8>,
    early: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    verify_chunk(chunk, stored)?;
    decode_verified_chunk_early(chunk, stored, wanted, out, early)
}

/// Decodes like [`decode_chunk_early`] what was verified before ([`decode_verified_chunk`]).
///
/// # Errors
/// The errors of [`decode_verified_chunk`]. `early` may have been called before one.
pub fn decode_verified_chunk_early(
    chunk: &Chunk,
    stored: &[u8],
    wanted: Range<usize>,
    out: &mut Vec<u8>,
    early: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    let raw_len = chunk.raw_len as usize;
    let is_filtered = chunk.codec == Codec::ZstdX86;
    // The filter cannot invert a call whose operand continues past the last decoded byte.
    let unsure_len = if is_filtered { x86::OPERAND_LEN } else { 0 };
    let first = wanted.end.saturating_add(unsure_len);
    if chunk.codec == Codec::Stored || first >= raw_len {
        decode_verified_chunk(chunk, stored, out)?;
        if let Some(bytes) = out.get(wanted) {
            early(bytes);
        }
        return Ok(());
    }
    let corrupt = |what| FormatError::corrupt("chunk", chunk.offset, what);
    if stored.len() != chunk.stored_len as usize {
        let what = "the stored bytes do not have the promised length";
        return Err(corrupt(String::from(what)));
    }
    make_room(raw_len, out).map_err(corrupt)?;
    let mut told = |start: &[u8]| {
        if is_filtered {
            // The decoder still refers to the unfiltered bytes.
            let from = x86::part_start(start, wanted.start);
            let mut part = start.get(from..first).unwrap_or_default().to_vec();
            x86::decode_part(&mut part, from);
            let inside = wanted.start - from..wanted.end.saturating_sub(from);
            part.get(inside).into_iter().for_each(&mut *early);
        } else {
            start.get(wanted.clone()).into_iter().for_each(&mut *early);
        }
    };
    decompress_early(stored, first, out, &mut told)
        .map_err(|code| corrupt(format!("not a zstd frame: {}", get_error_name(code))))?;
    if out.len() != raw_len {
        let what = format!("decodes to {} bytes, not to {raw_len}", out.len());
        return Err(corrupt(what));
    }
    if is_filtered {
        x86::decode(out);
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
        prepare(decoder)?;
        let mut to = OutBuffer::around(out);
        decompress_until(decoder, stored, wanted, &mut to).map(drop)
    })
}

/// Decodes one frame into the free space of `out`, and calls `early` when `wanted` bytes are
/// decoded.
fn decompress_early(
    stored: &[u8],
    wanted: usize,
    out: &mut Vec<u8>,
    early: &mut dyn FnMut(&[u8]),
) -> std::result::Result<(), usize> {
    with_decoder(|decoder| {
        prepare(decoder)?;
        let mut to = OutBuffer::around(out);
        let used = decompress_until(decoder, stored, wanted, &mut to)?;
        if to.pos() < wanted {
            return Ok(());
        }
        early(to.as_slice());
        let mut from = InBuffer::around(stored.get(used..).unwrap_or_default());
        loop {
            let before = (from.pos(), to.pos());
            let left = decoder.decompress_stream(&mut to, &mut from)?;
            if left == 0 || before == (from.pos(), to.pos()) {
                return Ok(());
            }
        }
    })
}

/// Begins a frame that is decoded directly into its buffer.
fn prepare(decoder: &mut DCtx<'_>) -> std::result::Result<(), usize> {
    decoder.reset(ResetDirective::SessionOnly)?;
    decoder
        .set_parameter(DParameter::StableOutBuffer(true))
        .map(drop)
}

/// Decodes until `to` has `wanted` bytes or the frame ends; returns the number of used bytes.
fn decompress_until<C: WriteBuf + ?Sized>(
    decoder: &mut DCtx<'_>,
    stored: &[u8],
    wanted: usize,
    to: &mut OutBuffer<'_, C>,
) -> std::result::Result<usize, usize> {
    let mut used = 0;
    for part in stored.chunks(PART_LEN) {
        let mut from = InBuffer::around(part);
        while from.pos() < part.len() {
            let before = (from.pos(), to.pos());
            let left = decoder.decompress_stream(to, &mut from)?;
            let is_stuck = before == (from.pos(), to.pos());
            if left == 0 || to.pos() >= wanted || is_stuck {
                return Ok(used + from.pos());
            }
        }
        used += part.len();
    }
    Ok(used)
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
    fn a_reader_gets_its_bytes_before_the_rest_is_decoded() {
        let raw = raw();
        let decoded = |chunk: &Chunk, stored: &[u8], wanted: Range<usize>| {
            let (mut out, mut early) = (vec![9; 17], Vec::new());
            let mut take = |bytes: &[u8]| early.push(bytes.to_vec());
            decode_chunk_early(chunk, stored, wanted, &mut out, &mut take).unwrap();
            assert!(out == raw);
            early
        };
        for x86 in [false, true] {
            let (chunk, stored) = chunk(&raw, x86);
            for start in (0..raw.len())
                .step_by(16_381)
                .chain([raw.len() - 5, raw.len() - 1])
            {
                for len in [1, 4096, 12_288] {
                    let wanted = start..(start + len).min(raw.len());
                    let early = decoded(&chunk, &stored, wanted.clone());
                    assert!(early == [&raw[wanted]], "{len} from {start}, x86 {x86}");
                }
            }
            assert_eq!(decoded(&chunk, &stored, 0..raw.len() + 1).len(), 0);
        }
        let plain = Chunk {
            stored_len: raw.len() as u32,
            codec: Codec::Stored,
            digest: Digest::of(&raw),
            ..chunk(&raw, false).0
        };
        assert!(decoded(&plain, &raw, 7..9) == [&raw[7..9]]);
        // Nothing of a chunk is given before all of its stored bytes are verified.
        let (chunk, mut stored) = chunk(&raw, true);
        *stored.last_mut().unwrap() ^= 1;
        let mut take = |_: &[u8]| panic!("it is damaged");
        let error = decode_chunk_early(&chunk, &stored, 0..1, &mut Vec::new(), &mut take);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::DigestMismatch);
        let torn = &stored[..stored.len() / 2];
        let error = decode_verified_chunk_early(&chunk, torn, 0..1, &mut Vec::new(), &mut take);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
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
