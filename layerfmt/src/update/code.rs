//! Frames with a prefix: zstd frames whose window begins with the old bytes.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, Strategy, get_error_name};

use super::addresses;
use super::head::{IndexFrame, corrupt};
use crate::digest::Digest;
use crate::error::{ErrorKind, FormatError, Result};
use crate::index::Index;
use crate::layout::superblock::SUPERBLOCK_LEN;
use crate::limits;
use crate::sys::buffer_for;

/// The compressor of units. Its output is deterministic.
#[derive(Debug, Clone, Copy)]
pub struct UnitEncoder {
    effort: UnitEffort,
}

#[derive(Debug, Clone, Copy)]
enum UnitEffort {
    Level(i32),
    /// A twentieth of the time, and a sixth longer.
    Estimate,
}

impl UnitEncoder {
    /// Creates a compressor with a zstd level, 1 to 22.
    pub fn new(level: i32) -> UnitEncoder {
        UnitEncoder {
            effort: UnitEffort::Level(level),
        }
    }

    /// Creates a fast compressor, to compare ways to encode a unit.
    pub fn estimate() -> UnitEncoder {
        UnitEncoder {
            effort: UnitEffort::Estimate,
        }
    }

    /// Compresses `raw` to a frame with `prefix`.
    ///
    /// # Errors
    /// When zstd fails, which needs a lack of memory.
    pub fn encode(&self, prefix: &[u8], raw: &[u8]) -> Result<Vec<u8>> {
        // Fixed parameters: zstd's defaults depend on the lengths of input and prefix.
        let window_log = window_log(prefix.len() + raw.len());
        let parameters = match self.effort {
            UnitEffort::Level(level) if level < 16 => vec![CParameter::CompressionLevel(level)],
            UnitEffort::Level(level) => vec![
                CParameter::CompressionLevel(level),
                CParameter::WindowLog(window_log),
                // The search waits for memory. Another step of it, or longer matches, cost a tenth of
                // the time each and save less than 0.5 % of the bytes; a larger table of hashes saves
                // nothing.
                CParameter::HashLog(window_log.min(20)),
                CParameter::ChainLog(window_log.min(23)),
                CParameter::SearchLog(4),
                CParameter::MinMatch(3),
                CParameter::TargetLength(96),
                CParameter::Strategy(Strategy::ZSTD_btultra),
            ],
            UnitEffort::Estimate => vec![
                CParameter::CompressionLevel(3),
                CParameter::WindowLog(window_log),
                CParameter::HashLog(window_log.min(20)),
                CParameter::ChainLog(window_log.min(20)),
                CParameter::SearchLog(2),
                CParameter::MinMatch(5),
                CParameter::TargetLength(16),
                CParameter::Strategy(Strategy::ZSTD_greedy),
            ],
        };
        encode(prefix, raw, &parameters)
    }

    /// Compresses like [`UnitEncoder::encode`], after the address filter.
    ///
    /// # Errors
    /// When zstd fails, which needs a lack of memory.
    pub fn encode_x86(&self, prefix: &[u8], raw: &[u8]) -> Result<Vec<u8>> {
        let filtered = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            addresses::encode(&mut bytes);
            bytes
        };
        self.encode(&filtered(prefix), &filtered(raw))
    }
}

/// The effort to make the frame of an INDEX shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexEffort {
    /// As short as possible.
    Small,
    /// A fraction of the time.
    Quick,
}

/// Compresses the raw INDEX of `new` to a frame with the raw INDEX of `old` as its prefix; `None`
/// if both together or the frame are too long.
///
/// # Errors
/// When zstd fails.
pub fn encode_index(
    old: &Index,
    new: &Index,
    effort: IndexEffort,
) -> Result<Option<(IndexFrame, Vec<u8>)>> {
    let (prefix, raw) = (old.raw(), new.raw());
    if !fits(prefix.len(), raw.len() as u64) {
        return Ok(None);
    }
    let window_log = window_log(prefix.len() + raw.len());
    let parameters = match effort {
        IndexEffort::Small => vec![
            CParameter::CompressionLevel(19),
            CParameter::WindowLog(window_log),
            CParameter::Strategy(Strategy::ZSTD_btultra2),
            CParameter::MinMatch(3),
            CParameter::SearchLog(5),
            CParameter::TargetLength(128),
        ],
        IndexEffort::Quick => vec![
            CParameter::CompressionLevel(3),
            CParameter::WindowLog(window_log),
            CParameter::HashLog(window_log.min(22)),
            CParameter::ChainLog(window_log.min(22)),
            CParameter::SearchLog(2),
            CParameter::MinMatch(4),
            CParameter::TargetLength(32),
            CParameter::Strategy(Strategy::ZSTD_lazy2),
            // Most of the index is one long match with the old one.
            CParameter::EnableLongDistanceMatching(true),
        ],
    };
    let stored = encode(&prefix, &raw, &parameters)?;
    let stored_len = u32::try_from(stored.len()).ok();
    let fitting = stored_len.filter(|len| u64::from(*len) <= limits::UPDATE_INDEX_WINDOW_LEN_MAX);
    let Some(stored_len) = fitting else {
        return Ok(None);
    };
    let frame = IndexFrame {
        stored_len,
        digest: Digest::of(&stored),
        raw_len: raw.len() as u64,
        raw_digest: Digest::of(&raw),
    };
    Ok(Some((frame, stored)))
}

/// Verifies the frame of the new INDEX, decodes it with `old` as its prefix, and verifies the
/// result and every rule of §6.
///
/// # Errors
/// [`ErrorKind::DigestMismatch`] before the decoding or before the use of the result;
/// [`ErrorKind::Limit`]; the first broken rule.
pub fn decode_index(frame: &IndexFrame, stored: &[u8], old: &Index) -> Result<Index> {
    decode_index_after(frame, stored, &old.raw())
}

/// Decodes like [`decode_index`], with the raw INDEX `prefix` as the prefix.
///
/// # Errors
/// Those of [`decode_index`].
pub fn decode_index_after(frame: &IndexFrame, stored: &[u8], prefix: &[u8]) -> Result<Index> {
    let mismatch =
        |what: &'static str| FormatError::new(ErrorKind::DigestMismatch, "update pack", 0, what);
    if stored.len() != frame.stored_len as usize || Digest::of(stored) != frame.digest {
        return Err(mismatch(
            "the frame of the INDEX does not have the promised digest",
        ));
    }
    if !fits(prefix.len(), frame.raw_len) {
        return Err(FormatError::limit(
            "update pack",
            64,
            "the INDEX is too long",
        ));
    }
    let raw_len = usize::try_from(frame.raw_len).unwrap_or(usize::MAX);
    let raw = decode(stored, prefix, raw_len).map_err(|what| corrupt(64, what))?;
    if Digest::of(&raw) != frame.raw_digest {
        return Err(mismatch("the INDEX does not have the promised digest"));
    }
    Index::decode(raw, SUPERBLOCK_LEN as u64)
}

fn fits(prefix_len: usize, raw_len: u64) -> bool {
    (prefix_len as u64).saturating_add(raw_len) <= limits::UPDATE_INDEX_WINDOW_LEN_MAX
}

/// Decodes the frame of a unit to `raw_len` bytes. The caller has checked its digest.
pub(super) fn decode_unit(
    frame: &[u8],
    prefix: &[u8],
    raw_len: usize,
) -> std::result::Result<Vec<u8>, String> {
    decode(frame, prefix, raw_len)
}

/// Decodes a frame like [`decode_unit`], before the inverse of the address filter. Filters `prefix`.
pub(super) fn decode_unit_x86(
    frame: &[u8],
    prefix: &mut [u8],
    raw_len: usize,
) -> std::result::Result<Vec<u8>, String> {
    addresses::encode(prefix);
    let mut raw = decode(frame, prefix, raw_len)?;
    addresses::decode(&mut raw);
    Ok(raw)
}

/// Log2 of the smallest window that holds `len` bytes.
fn window_log(len: usize) -> u32 {
    len.next_power_of_two()
        .trailing_zeros()
        .clamp(10, limits::ZSTD_WINDOW_LOG_MAX)
}

fn encode(prefix: &[u8], raw: &[u8], parameters: &[CParameter]) -> Result<Vec<u8>> {
    let failed = |code| corrupt(0, format!("cannot compress: {}", get_error_name(code)));
    let mut context = CCtx::create();
    let fixed = [
        CParameter::ContentSizeFlag(true),
        CParameter::ChecksumFlag(false),
    ];
    for parameter in fixed.iter().chain(parameters) {
        context.set_parameter(*parameter).map_err(failed)?;
    }
    context.ref_prefix(prefix).map_err(failed)?;
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(raw.len()));
    context.compress2(&mut out, raw).map_err(failed)?;
    out.shrink_to_fit();
    Ok(out)
}

/// Decodes to exactly `raw_len` bytes; never allocates more.
fn decode(stored: &[u8], prefix: &[u8], raw_len: usize) -> std::result::Result<Vec<u8>, String> {
    let mut out = buffer_for(raw_len);
    if out.capacity() < raw_len {
        return Err(format!("no memory for {raw_len} bytes"));
    }
    let mut context = DCtx::create();
    let named = |code| format!("not a zstd frame: {}", get_error_name(code));
    context
        .set_parameter(DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG_MAX))
        .map_err(named)?;
    context.ref_prefix(prefix).map_err(named)?;
    match context.decompress(&mut out, stored) {
        Err(code) => Err(named(code)),
        Ok(len) if len != raw_len => Err(format!("decodes to {len} bytes, not to {raw_len}")),
        Ok(_) => Ok(out),
    }
}
