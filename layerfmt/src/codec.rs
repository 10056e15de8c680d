//! Bounded compression and decompression of chunks and sections.

mod start;
pub(crate) mod steps;

use std::sync::{Mutex, PoisonError};

use zstd::zstd_safe::{CCtx, CParameter, DCtx, ResetDirective, Strategy};

use crate::digest::Digest;
use crate::error::{ErrorKind, FormatError, Result};
use crate::layout::chunk::{Chunk, Codec};
use crate::layout::superblock::{Section, SectionId};
use crate::sys::buffer_for;
use crate::x86;

pub use start::{decode_chunk_early, decode_chunk_start, decode_verified_chunk_early};

/// Compression effort. It is explicit, because zstd's own tables change the strategy with the length of the
/// input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// The zstd level.
    pub level: i32,
    /// Parameters that replace those of the level, if any.
    pub tuned: Option<Tuned>,
}

/// zstd's match finder parameters, and the maximum length of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuned {
    /// The match finder.
    pub strategy: Strategy,
    /// log2 of the window, bytes.
    pub window_log: u32,
    /// log2 of the hash table.
    pub hash_log: u32,
    /// log2 of the search structure.
    pub chain_log: u32,
    /// log2 of the search attempts.
    pub search_log: u32,
    /// Shortest match, bytes.
    pub min_match: u32,
    /// Match length at which the search stops.
    pub target_length: u32,
    /// Longest block of a frame, bytes; zstd's own bound is 128 KiB. A reader of one page decodes whole blocks, from
    /// the chunk's start up to it.
    pub block_len_max: u32,
}

impl Effort {
    /// zstd's own parameters for `level`.
    pub fn level(level: i32) -> Effort {
        Effort { level, tuned: None }
    }
}

/// Compresses chunks; one per thread, reused.
pub struct Compressor {
    context: CCtx<'static>,
    filtered: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor of the given effort.
    ///
    /// # Errors
    /// When zstd refuses a parameter.
    pub fn new(effort: Effort) -> Result<Compressor> {
        let mut context = CCtx::create();
        let mut parameters = vec![
            CParameter::CompressionLevel(effort.level),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
        ];
        if let Some(tuned) = effort.tuned {
            parameters.extend([
                CParameter::WindowLog(tuned.window_log),
                CParameter::HashLog(tuned.hash_log),
                CParameter::ChainLog(tuned.chain_log),
                CParameter::SearchLog(tuned.search_log),
                CParameter::MinMatch(tuned.min_match),
                CParameter::TargetLength(tuned.target_length),
                CParameter::MaxBlockSize(tuned.block_len_max),
                CParameter::Strategy(tuned.strategy),
            ]);
        }
        for parameter in parameters {
            context
                .set_parameter(parameter)
                .map_err(|code| refused("set a parameter", code))?;
        }
        Ok(Compressor {
            context,
            filtered: Vec::new(),
        })
    }

    /// Compresses `raw` into `out` (cleared first). With `x86` the call filter is applied. Bytes
    /// that do not shrink are stored uncompressed.
    ///
    /// # Errors
    /// zstd fails, which only lack of memory causes.
    pub fn compress(&mut self, raw: &[u8], x86: bool, out: &mut Vec<u8>) -> Result<Codec> {
        let input = if x86 {
            self.filtered.clear();
            self.filtered.extend_from_slice(raw);
            x86::encode(&mut self.filtered);
            &self.filtered
        } else {
            raw
        };
        out.clear();
        out.reserve(zstd::zstd_safe::compress_bound(input.len()));
        let _ = self.context.reset(ResetDirective::SessionOnly);
        self.context
            .compress2(out, input)
            .map_err(|code| refused("compress", code))?;
        if out.len() >= raw.len() {
            out.clear();
            out.extend_from_slice(raw);
            return Ok(Codec::Stored);
        }
        Ok(if x86 { Codec::ZstdX86 } else { Codec::Zstd })
    }
}

#[cold]
fn refused(what: &str, code: usize) -> FormatError {
    let name = zstd::zstd_safe::get_error_name(code);
    FormatError::corrupt("zstd", 0, format!("cannot {what}: {name}"))
}

/// Unused decoders for later; each has 100 kB of memory.
static DECODERS: Mutex<Vec<DCtx<'static>>> = Mutex::new(Vec::new());
/// Maximum number of unused decoders.
const DECODERS_MAX: usize = 8;

fn with_decoder<T>(work: impl FnOnce(&mut DCtx<'static>) -> T) -> T {
    let decoders = || DECODERS.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = decoders().pop();
    let mut decoder = kept.unwrap_or_else(DCtx::create);
    let done = work(&mut decoder);
    let mut decoders = decoders();
    if decoders.len() < DECODERS_MAX {
        decoders.push(decoder);
    }
    done
}

/// Frees the unused decoders.
pub fn forget_decoders() {
    let mut decoders = DECODERS.lock().unwrap_or_else(PoisonError::into_inner);
    drop(std::mem::take(&mut *decoders));
}

/// Empties `out` and gives it room for `raw_len` bytes.
fn make_room(raw_len: usize, out: &mut Vec<u8>) -> std::result::Result<(), String> {
    out.clear();
    if out.capacity() < raw_len {
        *out = buffer_for(raw_len);
    }
    out.try_reserve_exact(raw_len)
        .map_err(|_| format!("no memory for {raw_len} bytes"))
}

/// Decompress zstd frames of exactly `raw_len` bytes into `out` (cleared first). Allocates no more
/// than that.
fn decompress(stored: &[u8], raw_len: usize, out: &mut Vec<u8>) -> std::result::Result<(), String> {
    make_room(raw_len, out)?;
    match with_decoder(|decoder| decoder.decompress(out, stored)) {
        Err(code) => Err(format!(
            "not a zstd frame: {}",
            zstd::zstd_safe::get_error_name(code)
        )),
        Ok(len) if len != raw_len => Err(format!("decodes to {len} bytes, not to {raw_len}")),
        Ok(_) => Ok(()),
    }
}

/// Verify the stored bytes of a chunk against its digest, then decode them into `out` (cleared
/// first; `chunk.raw_len` bytes afterwards).
///
/// # Errors
/// [`ErrorKind::DigestMismatch`] before anything is decoded; [`ErrorKind::Corrupt`] when verified
/// bytes do not decode (a faulty writer). The offset is the chunk's place in its file.
pub fn decode_chunk(chunk: &Chunk, stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
    verify_chunk(chunk, stored)?;
    decode_verified_chunk(chunk, stored, out)
}

/// Decode into `out` the stored bytes of a chunk that were verified before ([`verify_chunk`], or by their digest), and
/// have been in this process's memory since.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when they have another length or do not decode.
pub fn decode_verified_chunk(chunk: &Chunk, stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
    if stored.len() != chunk.stored_len as usize {
        let what = "the stored bytes do not have the promised length";
        return Err(FormatError::corrupt("chunk", chunk.offset, what));
    }
    match chunk.codec {
        Codec::Stored => {
            out.clear();
            out.extend_from_slice(stored);
        }
        Codec::Zstd | Codec::ZstdX86 => {
            decompress(stored, chunk.raw_len as usize, out)
                .map_err(|what| FormatError::corrupt("chunk", chunk.offset, what))?;
            if chunk.codec == Codec::ZstdX86 {
                x86::decode(out);
            }
        }
    }
    Ok(())
}

/// Decodes like [`decode_chunk`], into existing memory: `place` has `chunk.raw_len` bytes. Its
/// contents are undefined after an error.
///
/// # Errors
/// The errors of [`decode_chunk`], and [`ErrorKind::Corrupt`] if `place` has another length.
pub fn decode_chunk_into(chunk: &Chunk, stored: &[u8], place: &mut [u8]) -> Result<()> {
    verify_chunk(chunk, stored)?;
    let corrupt = |what| FormatError::corrupt("chunk", chunk.offset, what);
    if place.len() != chunk.raw_len as usize {
        return Err(corrupt(String::from("the request has a wrong length")));
    }
    if chunk.codec == Codec::Stored {
        if stored.len() != place.len() {
            return Err(corrupt(String::from("it is stored with a wrong length")));
        }
        place.copy_from_slice(stored);
        return Ok(());
    }
    match with_decoder(|decoder| decoder.decompress(place, stored)) {
        Err(code) => {
            let name = zstd::zstd_safe::get_error_name(code);
            return Err(corrupt(format!("not a zstd frame: {name}")));
        }
        Ok(len) if len != place.len() => {
            return Err(corrupt(format!(
                "decodes to {len} bytes, not to {}",
                place.len()
            )));
        }
        Ok(_) => {}
    }
    if chunk.codec == Codec::ZstdX86 {
        x86::decode(place);
    }
    Ok(())
}

/// Verify the stored bytes of a chunk against its length and digest.
///
/// # Errors
/// [`ErrorKind::DigestMismatch`].
pub(crate) fn verify_chunk(chunk: &Chunk, stored: &[u8]) -> Result<()> {
    if stored.len() != chunk.stored_len as usize || Digest::of(stored) != chunk.digest {
        let what = "the stored bytes do not have the promised digest";
        return Err(FormatError::new(
            ErrorKind::DigestMismatch,
            "chunk",
            chunk.offset,
            what,
        ));
    }
    Ok(())
}

/// Verify the stored bytes of a section against its length and digest.
///
/// # Errors
/// [`ErrorKind::DigestMismatch`]; the offset is the section's place in the file.
pub(crate) fn verify_section(section: &Section, stored: &[u8]) -> Result<()> {
    let name = section.id.name();
    if stored.len() as u64 != section.stored_len || Digest::of(stored) != section.digest {
        let what = "the stored bytes do not have the promised digest";
        return Err(FormatError::new(
            ErrorKind::DigestMismatch,
            name,
            section.offset,
            what,
        ));
    }
    Ok(())
}

/// Decompress the stored bytes of a section, which were verified ([`verify_section`]).
///
/// # Errors
/// [`ErrorKind::Corrupt`] when they do not decode.
pub(crate) fn decode_section(section: &Section, stored: &[u8]) -> Result<Vec<u8>> {
    let name = section.id.name();
    // A digest proves the identity of the writer, not that the writer is correct. The section's limit bounds
    // the length, and a zstd frame cannot expand beyond it.
    let raw_len = usize::try_from(section.raw_len).unwrap_or(usize::MAX);
    let mut out = Vec::new();
    decompress(stored, raw_len, &mut out)
        .map_err(|what| FormatError::corrupt(name, section.offset, what))?;
    Ok(out)
}

/// A zstd frame whose digest was checked, as exactly `raw_len` bytes.
pub(crate) fn decode_frame(stored: &[u8], raw_len: usize) -> std::result::Result<Vec<u8>, String> {
    let mut out = Vec::new();
    decompress(stored, raw_len, &mut out)?;
    Ok(out)
}

/// Compresses to one zstd frame that is small rather than fast to make.
pub(crate) fn encode_small(raw: &[u8]) -> Result<Vec<u8>> {
    encode_section(SectionId::Index, raw, SectionEffort::Small)
}

/// Compression effort of the INDEX section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionEffort {
    /// Small: clients wait for it.
    Small,
    /// Ten times as fast, with a fifth more bytes: only a server reads it.
    Quick,
}

/// Raw length from which an INDEX is a large one, bytes: equal columns of a smaller one are within one window.
const LARGE_LEN: usize = 16 << 20;
/// log2 of the window of a large INDEX, as level 19 has it: a reader that decodes in steps needs this memory.
const LARGE_WINDOW_LOG: u32 = 23;

/// Compress a section.
pub(crate) fn encode_section(id: SectionId, raw: &[u8], effort: SectionEffort) -> Result<Vec<u8>> {
    let mut context = CCtx::create();
    for parameter in section_parameters(id, effort, raw.len()) {
        context
            .set_parameter(parameter)
            .map_err(|code| refused("set a parameter", code))?;
    }
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(raw.len()));
    context
        .compress2(&mut out, raw)
        .map_err(|code| refused("compress", code))?;
    Ok(out)
}

/// Clients wait for the INDEX first, so its size matters: columns of `u32` need three-byte matches
/// (-14 % against four-byte ones), which only the optimal parsers find. Level 19 with a shorter
/// search takes about half its time for 1 % more bytes. CONTENT consists of digests, which do not
/// shrink, and stays on the server. docs/BENCHMARKS.md has the figures.
fn section_parameters(id: SectionId, effort: SectionEffort, raw_len: usize) -> Vec<CParameter> {
    let mut parameters = vec![
        CParameter::ContentSizeFlag(true),
        CParameter::ChecksumFlag(false),
    ];
    match id {
        SectionId::Index if effort == SectionEffort::Quick => {
            parameters.push(CParameter::CompressionLevel(9));
        }
        SectionId::Index if raw_len < LARGE_LEN => parameters.extend([
            CParameter::CompressionLevel(19),
            CParameter::Strategy(Strategy::ZSTD_btopt),
            CParameter::MinMatch(3),
            CParameter::SearchLog(3),
            CParameter::TargetLength(24),
        ]),
        // Tables that the processor caches, and a search for long matches of its own: a large index takes 0.6
        // of the time, 75 MiB less memory, and has 3 % fewer bytes.
        SectionId::Index => parameters.extend([
            CParameter::CompressionLevel(19),
            CParameter::Strategy(Strategy::ZSTD_btopt),
            CParameter::MinMatch(3),
            CParameter::SearchLog(2),
            CParameter::TargetLength(24),
            CParameter::WindowLog(LARGE_WINDOW_LOG),
            CParameter::ChainLog(20),
            CParameter::HashLog(18),
            CParameter::EnableLongDistanceMatching(true),
        ]),
        SectionId::Content | SectionId::Meta => parameters.push(CParameter::CompressionLevel(1)),
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::chunk::ChunkFile;

    fn chunk(stored: &[u8], raw_len: u32, codec: Codec) -> Chunk {
        Chunk {
            source: ChunkFile::Own,
            offset: 1024,
            stored_len: stored.len() as u32,
            raw_len,
            codec,
            digest: Digest::of(stored),
        }
    }

    /// docs/FORMAT.md 9.1: the blocks of a bake are of at most 64 KiB.
    #[test]
    fn a_page_costs_no_more_than_its_block_and_those_before_it() {
        // Six random bits in each byte: zstd never ends a block early, and each block is longer
        // than a piece.
        let mut state = 1_u32;
        let raw: Vec<u8> = (0..256 << 10)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 26) as u8
            })
            .collect();
        let mut stored = Vec::new();
        let mut compressor = Compressor::new(crate::Options::bake().effort).unwrap();
        let codec = compressor.compress(&raw, false, &mut stored).unwrap();
        assert_eq!(codec, Codec::Zstd);
        let chunk = chunk(&stored, raw.len() as u32, codec);
        let mut start = Vec::new();
        decode_chunk_start(&chunk, &stored, 4096, &mut start).unwrap();
        assert!(start.len() <= 64 << 10, "{} bytes", start.len());
        assert_eq!(start, raw[..start.len()]);
    }

    #[test]
    fn all_codecs_round_trip_and_lies_are_refused() {
        let raw: Vec<u8> = (0..100_000u32)
            .flat_map(|i| (i / 7).to_le_bytes())
            .collect();
        let mut compressor = Compressor::new(Effort::level(3)).unwrap();
        let (mut stored, mut out) = (Vec::new(), Vec::new());
        for x86 in [false, true] {
            let codec = compressor.compress(&raw, x86, &mut stored).unwrap();
            assert!(stored.len() < raw.len());
            decode_chunk(&chunk(&stored, raw.len() as u32, codec), &stored, &mut out).unwrap();
            assert_eq!(out, raw);
            for lie in [raw.len() as u32 - 1, raw.len() as u32 + 1, 1] {
                let error = decode_chunk(&chunk(&stored, lie, codec), &stored, &mut out);
                assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
            }
        }
        let noise = blake3::Hasher::new().update(b"x").finalize_xof();
        let mut random = vec![0; 5000];
        let mut noise = noise;
        noise.fill(&mut random);
        assert_eq!(
            compressor.compress(&random, true, &mut stored).unwrap(),
            Codec::Stored
        );
        let mut flipped = stored.clone();
        flipped[17] ^= 1;
        let good = chunk(&stored, 5000, Codec::Stored);
        decode_chunk(&good, &stored, &mut out).unwrap();
        let error = decode_chunk(&good, &flipped, &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DigestMismatch);
    }
}
