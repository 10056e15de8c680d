//! Checks a head against both indexes, and makes chunks with it.

use std::collections::HashMap;

use super::code::{decode_unit, decode_unit_x86};
use super::head::{Span, UNIT_CODEC_X86, UNIT_CODEC_ZSTD, Unit, UpdateHead, corrupt};
use super::script::Script;
use crate::digest::Digest;
use crate::error::{ErrorKind, FormatError, Result};
use crate::index::Index;
use crate::limits;
use crate::sys::buffer_for;

/// A chunk that a unit made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Digest of its stored bytes: its name in the new index.
    pub digest: Digest,
    /// Digest of its raw bytes, verified.
    pub raw_digest: Digest,
    /// The raw bytes of the chunk.
    pub raw: Vec<u8>,
}

/// The units of an update pack that this reader can use.
#[derive(Debug, Clone)]
pub struct UpdatePlan {
    units: Vec<Usable>,
    /// The unit that makes each chunk of the new index.
    makers: HashMap<Digest, u32>,
    hot_count: u32,
}

#[derive(Debug, Clone)]
struct Usable {
    unit: Unit,
    /// Position of the frame, bytes from the start of the frames.
    offset: u64,
    raw_lens: Vec<u32>,
    prefix_len: usize,
}

impl UpdatePlan {
    /// Checks `head` against the index that it starts from and the index that it leads to.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when a chunk or a span is not in its index, or when two units make
    /// the same chunk; [`ErrorKind::Limit`] when a unit or its prefix is too long.
    pub fn new(head: UpdateHead, old: &Index, new: &Index) -> Result<UpdatePlan> {
        let lens: HashMap<Digest, u32> = new
            .chunks()
            .map(|chunk| (chunk.digest, chunk.raw_len))
            .collect();
        let mut makers = HashMap::new();
        let mut units = Vec::with_capacity(head.units.len());
        let mut offset = head.index_len();
        for (row, unit) in head.units.into_iter().enumerate() {
            let raw_lens = raw_lens(row, &unit, &lens)?;
            let prefix_len = prefix_len(row, &unit, old)?;
            for made in &unit.made {
                if makers.insert(made.digest, row as u32).is_some() {
                    return Err(corrupt(row, "a chunk is made twice"));
                }
            }
            let stored_len = u64::from(unit.stored_len);
            units.push(Usable {
                unit,
                offset,
                raw_lens,
                prefix_len,
            });
            offset += stored_len;
        }
        makers.retain(|_, row| {
            let unit = units.get(*row as usize);
            unit.is_some_and(|usable| usable.unit.is_supported())
        });
        Ok(UpdatePlan {
            units,
            makers,
            hot_count: head.hot_count,
        })
    }

    /// Number of units.
    pub fn len(&self) -> u32 {
        self.units.len() as u32
    }

    /// True if the pack has no unit.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Number of hot units, at the beginning: a boot reads their chunks first.
    pub fn hot_count(&self) -> u32 {
        self.hot_count
    }

    /// The unit that makes the chunk `digest` of the new index, if this reader supports its codec.
    pub fn maker(&self, digest: &Digest) -> Option<u32> {
        self.makers.get(digest).copied()
    }

    /// Unit number `row`, and the position of its frame, bytes from the start of the frames.
    pub fn unit(&self, row: u32) -> Option<(&Unit, u64)> {
        let usable = self.units.get(row as usize)?;
        Some((&usable.unit, usable.offset))
    }

    /// Verifies the frame of unit `row`, decodes it with its prefix, and verifies every chunk.
    /// `old` returns the raw bytes of a chunk of the old index; each span causes one call.
    ///
    /// # Errors
    /// [`ErrorKind::DigestMismatch`] when the frame or a decoded chunk does not have its digest
    /// from the head; [`ErrorKind::Corrupt`] when the frame does not decode; the errors of `old`.
    pub fn apply<B: AsRef<[u8]>>(
        &self,
        row: u32,
        frame: &[u8],
        old: impl FnMut(u32) -> Result<B>,
    ) -> Result<Vec<Ready>> {
        let mut ready = Vec::new();
        self.apply_each(row, frame, old, |chunk| ready.push(chunk))?;
        Ok(ready)
    }

    /// Like [`UpdatePlan::apply`], but passes each chunk to `each` as soon as it is verified. The chunks
    /// before a wrong one are sound.
    ///
    /// # Errors
    /// The errors of [`UpdatePlan::apply`].
    pub fn apply_each<B: AsRef<[u8]>>(
        &self,
        row: u32,
        frame: &[u8],
        mut old: impl FnMut(u32) -> Result<B>,
        mut each: impl FnMut(Ready),
    ) -> Result<()> {
        let Some(usable) = self.units.get(row as usize) else {
            return Err(corrupt(row as usize, "there is no such unit"));
        };
        let mismatch = |what: &'static str| {
            FormatError::new(ErrorKind::DigestMismatch, "update pack", row.into(), what)
        };
        if frame.len() != usable.unit.stored_len as usize || Digest::of(frame) != usable.unit.digest
        {
            return Err(mismatch("the frame does not have the promised digest"));
        }
        let mut prefix = buffer_for(usable.prefix_len);
        if prefix.capacity() < usable.prefix_len {
            return Err(corrupt(row as usize, "no memory for a prefix"));
        }
        for span in &usable.unit.prefix {
            let chunk = old(span.chunk)?;
            let part = part(chunk.as_ref(), span);
            prefix.extend_from_slice(part.ok_or_else(|| mismatch("an old chunk is too short"))?);
        }
        let raw_len = usable.raw_lens.iter().map(|len| *len as usize).sum();
        let raw = decoded(row, &usable.unit, frame, prefix, raw_len)?;
        let mut rest = raw.as_slice();
        for (made, len) in usable.unit.made.iter().zip(&usable.raw_lens) {
            let (bytes, after) = rest.split_at_checked(*len as usize).unwrap_or_default();
            rest = after;
            if Digest::of(bytes) != made.raw_digest {
                return Err(mismatch(
                    "a decoded chunk does not have the promised digest",
                ));
            }
            each(Ready {
                digest: made.digest,
                raw_digest: made.raw_digest,
                raw: bytes.to_vec(),
            });
        }
        Ok(())
    }
}

/// The chunks of a unit, one after the other.
fn decoded(
    row: u32,
    unit: &Unit,
    frame: &[u8],
    mut prefix: Vec<u8>,
    raw_len: usize,
) -> Result<Vec<u8>> {
    let raw = match unit.codec {
        UNIT_CODEC_ZSTD => decode_unit(frame, &prefix, raw_len),
        UNIT_CODEC_X86 => decode_unit_x86(frame, &mut prefix, raw_len),
        _ => return scripted(frame, prefix, raw_len),
    };
    raw.map_err(|what| corrupt(row as usize, what))
}

/// The chunks of a unit with a script. `spans`: the bytes of its spans.
fn scripted(stored: &[u8], spans: Vec<u8>, raw_len: usize) -> Result<Vec<u8>> {
    let (script, frame) = Script::decode(stored, spans.len(), raw_len)?;
    let prefix = script.prefix(&spans)?;
    drop(spans);
    let content = script.content(&prefix, frame)?;
    drop(prefix);
    script.chunks(&content)
}

fn part<'c>(chunk: &'c [u8], span: &Span) -> Option<&'c [u8]> {
    let start = span.offset as usize;
    chunk.get(start..)?.get(..span.len as usize)
}

fn raw_lens(row: usize, unit: &Unit, known: &HashMap<Digest, u32>) -> Result<Vec<u32>> {
    let mut sum = 0u64;
    let mut lens = Vec::with_capacity(unit.made.len());
    for made in &unit.made {
        let len = known.get(&made.digest).copied();
        let len =
            len.ok_or_else(|| corrupt(row, "it makes a chunk that the index does not have"))?;
        sum += u64::from(len);
        lens.push(len);
    }
    if sum > u64::from(limits::UPDATE_UNIT_LEN_MAX) {
        let what = "a unit makes too many bytes";
        return Err(FormatError::limit("update pack", row as u64, what));
    }
    Ok(lens)
}

fn prefix_len(row: usize, unit: &Unit, old: &Index) -> Result<usize> {
    let mut sum = 0u64;
    for span in &unit.prefix {
        let raw_len = old.chunk(span.chunk).map_or(0, |chunk| chunk.raw_len);
        let end = u64::from(span.offset) + u64::from(span.len);
        if span.len == 0 || end > u64::from(raw_len) {
            return Err(corrupt(row, "a span is empty or outside its chunk"));
        }
        sum += u64::from(span.len);
    }
    if sum > u64::from(limits::UPDATE_PREFIX_LEN_MAX) {
        let what = "a prefix is too long";
        return Err(FormatError::limit("update pack", row as u64, what));
    }
    Ok(usize::try_from(sum).unwrap_or(usize::MAX))
}
