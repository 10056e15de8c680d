//! Scripts of units with codec 2 or 3. A script lists the parts of the prefix and of the content
//! that are compressed data in its raw form, and the runs of the content that are differences
//! (`docs/FORMAT.md` §18).

use super::code::{UnitEncoder, decode_unit};
use super::head::corrupt;
use super::recipe::PackRecipe;
use super::runs::{self, RUN_LEN, Run};
use crate::codec::{decode_frame, encode_small};
use crate::error::{FormatError, Result};
use crate::limits;

/// Length of the lengths before a script, bytes.
const LENS_LEN: usize = 8;
/// Words before the parts: the four counts.
const COUNT_WORDS: usize = 4;
/// Words of a part.
const PART_WORDS: usize = 3;
/// Words of a copy.
const COPY_WORDS: usize = 2;

/// A part of a prefix or of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptPart {
    /// Length of its raw form, bytes.
    pub raw_len: u32,
    /// Length of its compressed form, bytes.
    pub packed_len: u32,
    /// The way from the raw form to the compressed one.
    pub recipe: PackRecipe,
}

impl ScriptPart {
    /// A part that is not compressed.
    pub fn plain(len: u32) -> ScriptPart {
        ScriptPart {
            raw_len: len,
            packed_len: len,
            recipe: PackRecipe::Plain,
        }
    }
}

/// A run of the remade bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptCopy {
    /// Position in the remade bytes.
    pub offset: u32,
    /// Length of the run, bytes.
    pub len: u32,
}

/// The script of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// The bytes of the spans, in order. Their raw forms are the prefix.
    pub old: Vec<ScriptPart>,
    /// The content of the frame, in order. The compressed forms are the remade bytes.
    pub new: Vec<ScriptPart>,
    /// The runs of the remade bytes that are the unit's chunks, in order.
    pub copies: Vec<ScriptCopy>,
    /// The runs of the content that are encoded as differences, in order. Without runs, the frame
    /// has a prefix.
    pub runs: Vec<Run>,
}

impl Script {
    /// The script of a unit without compressed data.
    pub fn plain(spans_len: u32, chunks_len: u32, runs: Vec<Run>) -> Script {
        let part = |len: u32| (len > 0).then(|| ScriptPart::plain(len));
        Script {
            old: part(spans_len).into_iter().collect(),
            new: part(chunks_len).into_iter().collect(),
            copies: vec![ScriptCopy {
                offset: 0,
                len: chunks_len,
            }],
            runs,
        }
    }

    /// Compresses `content`, in its raw form, against `prefix`; puts the script before the frame.
    ///
    /// # Errors
    /// When zstd fails, or the runs of the script are not in the content and in the prefix.
    pub fn encode_unit(
        &self,
        prefix: &[u8],
        content: &[u8],
        encoder: UnitEncoder,
    ) -> Result<Vec<u8>> {
        if self.runs.is_empty() {
            return self.encode(&encoder.encode(prefix, content)?);
        }
        let coded = runs::split(&self.runs, prefix, content).ok_or_else(short)?;
        self.encode(&encoder.encode(&[], &coded)?)
    }

    /// The content in its raw form, from a frame.
    ///
    /// # Errors
    /// When the frame does not decode to the length of the content.
    pub(super) fn content(&self, prefix: &[u8], frame: &[u8]) -> Result<Vec<u8>> {
        let frame_prefix = match self.runs.is_empty() {
            true => prefix,
            false => &[],
        };
        let coded = decode_unit(frame, frame_prefix, self.content_len());
        let coded = coded.map_err(|what| corrupt(0, what))?;
        if self.runs.is_empty() {
            return Ok(coded);
        }
        runs::join(&self.runs, prefix, &coded).ok_or_else(short)
    }

    /// Length of the raw script, bytes.
    pub fn bytes_len(&self) -> usize {
        self.to_bytes().len()
    }

    /// Puts the script before a frame.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn encode(&self, frame: &[u8]) -> Result<Vec<u8>> {
        let raw = self.to_bytes();
        let stored = encode_small(&raw)?;
        let lens = [stored.len(), raw.len()].map(|len| u32::try_from(len).unwrap_or(u32::MAX));
        let mut out = Vec::with_capacity(LENS_LEN + stored.len() + frame.len());
        out.extend(lens.iter().flat_map(|len| len.to_le_bytes()));
        out.extend_from_slice(&stored);
        out.extend_from_slice(frame);
        Ok(out)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut words = Vec::new();
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        words.extend([&self.old, &self.new].map(|parts| count(parts.len())));
        words.extend([self.copies.len(), self.runs.len()].map(count));
        let parts = || self.old.iter().chain(&self.new);
        words.extend(parts().map(|part| part.raw_len));
        words.extend(parts().map(|part| part.packed_len));
        words.extend(parts().map(|part| part.recipe.to_word()));
        words.extend(self.copies.iter().map(|copy| copy.offset));
        words.extend(self.copies.iter().map(|copy| copy.len));
        let mut raw: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        raw.extend(runs::encode(&self.runs));
        raw
    }

    /// The script before a frame, checked against the length of the spans and of the chunks, and
    /// the frame. The caller has checked the digest of `stored`.
    ///
    /// # Errors
    /// The first broken rule of `docs/FORMAT.md` §18.
    pub(super) fn decode(
        stored: &[u8],
        spans_len: usize,
        chunks_len: usize,
    ) -> Result<(Script, &[u8])> {
        let (lens, rest) = stored.split_at_checked(LENS_LEN).ok_or_else(short)?;
        let (stored_len, raw_len) = (word_at(lens, 0), word_at(lens, 1));
        if raw_len > limits::UPDATE_SCRIPT_LEN_MAX {
            return Err(FormatError::limit(
                "update pack",
                4,
                "the script of a unit is too long",
            ));
        }
        let (script, frame) = rest
            .split_at_checked(stored_len as usize)
            .ok_or_else(short)?;
        let raw = decode_frame(script, raw_len as usize).map_err(|what| corrupt(0, what))?;
        let script = Script::from_bytes(&raw)?;
        script.check(spans_len, chunks_len)?;
        Ok((script, frame))
    }

    fn from_bytes(raw: &[u8]) -> Result<Script> {
        let count = |at| word_at(raw, at) as usize;
        let (old, new, copies, runs) = (count(0), count(1), count(2), count(3));
        let parts = old.saturating_add(new);
        let words = COUNT_WORDS
            .saturating_add(PART_WORDS.saturating_mul(parts))
            .saturating_add(COPY_WORDS.saturating_mul(copies));
        let runs_start = words.saturating_mul(4);
        if raw.len() != runs_start.saturating_add(RUN_LEN.saturating_mul(runs)) {
            return Err(corrupt(0, "the counts do not give the script's length"));
        }
        let part = |at: usize| {
            let column = |column: usize| word_at(raw, COUNT_WORDS + column * parts + at);
            let recipe = PackRecipe::from_word(column(2));
            Ok(ScriptPart {
                raw_len: column(0),
                packed_len: column(1),
                recipe: recipe.ok_or_else(|| corrupt(at, "a recipe that does not exist"))?,
            })
        };
        let first_copy = COUNT_WORDS + PART_WORDS * parts;
        let copy = |at: usize| ScriptCopy {
            offset: word_at(raw, first_copy + at),
            len: word_at(raw, first_copy + copies + at),
        };
        let mut script = Script {
            old: (0..old).map(part).collect::<Result<_>>()?,
            new: (old..parts).map(part).collect::<Result<_>>()?,
            copies: (0..copies).map(copy).collect(),
            runs: Vec::new(),
        };
        let lens = (raw_len(&script.old), raw_len(&script.new));
        let planes = raw.get(runs_start..).unwrap_or_default();
        script.runs = runs::decode(planes, lens.0, lens.1)?;
        Ok(script)
    }

    fn check(&self, spans_len: usize, chunks_len: usize) -> Result<()> {
        let uneven =
            |part: &ScriptPart| part.recipe == PackRecipe::Plain && part.raw_len != part.packed_len;
        if self.old.iter().chain(&self.new).any(uneven) {
            return Err(corrupt(0, "a plain part with two lengths"));
        }
        let too_long = |part: &ScriptPart| part.raw_len > part.recipe.raw_len_max();
        if self.old.iter().chain(&self.new).any(too_long) {
            let what = "compressed data is too long for its recipe";
            return Err(FormatError::limit("update pack", 0, what));
        }
        let (unit_max, prefix_max) = (
            u64::from(limits::UPDATE_UNIT_LEN_MAX),
            u64::from(limits::UPDATE_PREFIX_LEN_MAX),
        );
        if packed_len(&self.old) != spans_len as u64 {
            return Err(corrupt(0, "the parts are not the spans"));
        }
        let remade_len = packed_len(&self.new);
        if raw_len(&self.old) > prefix_max || raw_len(&self.new) > unit_max || remade_len > unit_max
        {
            let what = "a prefix or a unit is too long";
            return Err(FormatError::limit("update pack", 0, what));
        }
        let mut sum = 0u64;
        for copy in &self.copies {
            if u64::from(copy.offset) + u64::from(copy.len) > remade_len {
                return Err(corrupt(0, "a copy outside the remade bytes"));
            }
            sum += u64::from(copy.len);
        }
        if sum != chunks_len as u64 {
            return Err(corrupt(0, "the copies are not the chunks"));
        }
        Ok(())
    }

    /// Length of the content, bytes.
    fn content_len(&self) -> usize {
        usize::try_from(raw_len(&self.new)).unwrap_or(usize::MAX)
    }

    /// The prefix of the frame, from the bytes of the spans.
    ///
    /// # Errors
    /// When an old part does not decompress: the old chunks differ from those of the writer.
    pub fn prefix(&self, mut spans: &[u8]) -> Result<Vec<u8>> {
        let mut prefix = Vec::new();
        for part in &self.old {
            let (packed, rest) = spans
                .split_at_checked(part.packed_len as usize)
                .ok_or_else(short)?;
            spans = rest;
            let raw = part.recipe.unpack(packed, part.raw_len as usize);
            let raw = raw.ok_or_else(|| corrupt(0, "an old part cannot be decompressed"))?;
            prefix.extend_from_slice(&raw);
        }
        Ok(prefix)
    }

    /// The chunks of the unit, one after the other, from the content of the frame.
    ///
    /// # Errors
    /// When this reader's library makes other bytes than the writer's, which the digests of the
    /// chunks would show as well.
    pub(super) fn chunks(&self, mut content: &[u8]) -> Result<Vec<u8>> {
        let mut remade = Vec::new();
        for part in &self.new {
            let (raw, rest) = content
                .split_at_checked(part.raw_len as usize)
                .ok_or_else(short)?;
            content = rest;
            let len = part.packed_len as usize;
            let packed = part.recipe.pack(raw, len).filter(|it| it.len() == len);
            let packed = packed.ok_or_else(|| {
                corrupt(0, "compressing again does not give the length of the data")
            })?;
            remade.extend_from_slice(&packed);
        }
        let mut chunks = Vec::new();
        for copy in &self.copies {
            let run = remade.get(copy.offset as usize..);
            let run = run.and_then(|run| run.get(..copy.len as usize));
            chunks.extend_from_slice(run.ok_or_else(short)?);
        }
        Ok(chunks)
    }
}

fn raw_len(parts: &[ScriptPart]) -> u64 {
    parts.iter().map(|part| u64::from(part.raw_len)).sum()
}

fn packed_len(parts: &[ScriptPart]) -> u64 {
    parts.iter().map(|part| u64::from(part.packed_len)).sum()
}

fn word_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(4 * at..4 * at + 4)
        .and_then(|word| word.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

#[cold]
fn short() -> FormatError {
    corrupt(0, "a unit is shorter than its script says")
}
