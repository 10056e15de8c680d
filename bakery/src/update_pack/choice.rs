//! Chooses the codec of a unit without recipes by the length of its frame.
//!
//! A program that was built again is shortest as differences from the old one. A program with many changes has
//! few runs, and is shorter as a frame with the old program as its prefix. The ways are compared by
//! fast frames, because the best frame takes twenty times as long.

use layerfmt::limits;
use layerfmt::update::{Script, UNIT_CODEC_RUNS, UNIT_CODEC_X86, UNIT_CODEC_ZSTD, UnitEncoder};

use super::Result;
use super::runs::runs;

/// Of a content of whose samples a fast frame with the prefix has more than this part, per cent, no runs are
/// searched: it has few, and the search takes as long as several fast frames.
const FAR_PERCENT: usize = 30;
/// Number of the samples, and their greatest length, bytes.
const SAMPLES: usize = 4;
const SAMPLE_LEN: usize = 64 << 10;

/// Differences that are so much shorter than the content are not compared with a frame with a prefix.
const CLOSE_PART: usize = 16;

/// Length of fast differences, per cent of a fast frame with a prefix, up to which the best differences are
/// the shorter ones: the best frame with a prefix gains more.
const FAST_PERCENT: usize = 96;

/// A unit without recipes.
pub(super) struct PlainUnit<'u> {
    pub(super) prefix: &'u [u8],
    pub(super) content: &'u [u8],
    /// Most of it is code for x86-64.
    pub(super) is_code: bool,
}

impl PlainUnit<'_> {
    /// The codec and the stored bytes that are the shortest.
    pub(super) fn encode(&self, encoder: UnitEncoder) -> Result<(u32, Vec<u8>)> {
        match self.shorter_script()? {
            Some(script) => {
                let stored = script.encode_unit(self.prefix, self.content, encoder)?;
                Ok((UNIT_CODEC_RUNS, stored))
            }
            None => self.with_prefix(self.content, encoder),
        }
    }

    fn with_prefix(&self, content: &[u8], encoder: UnitEncoder) -> Result<(u32, Vec<u8>)> {
        Ok(match self.is_code {
            true => (UNIT_CODEC_X86, encoder.encode_x86(self.prefix, content)?),
            false => (UNIT_CODEC_ZSTD, encoder.encode(self.prefix, content)?),
        })
    }

    /// True if most of the content is new.
    fn is_far(&self, quick: UnitEncoder) -> Result<bool> {
        let step = self.content.len().div_ceil(SAMPLES).max(1);
        let samples = self.content.chunks(step);
        let samples = samples.map(|part| part.get(..SAMPLE_LEN).unwrap_or(part));
        let samples: Vec<u8> = samples.flatten().copied().collect();
        let (_, frame) = self.with_prefix(&samples, quick)?;
        Ok(frame.len() * 100 > samples.len() * FAR_PERCENT)
    }

    /// The script with the runs of the content, if the differences are shorter than a frame with the prefix.
    fn shorter_script(&self) -> Result<Option<Script>> {
        let quick = UnitEncoder::estimate();
        if self.prefix.is_empty() || self.is_far(quick)? {
            return Ok(None);
        }
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let runs = runs(self.prefix, self.content);
        let script = Script::plain(len(self.prefix), len(self.content), runs);
        if script.runs.is_empty() || script.bytes_len() > limits::UPDATE_SCRIPT_LEN_MAX as usize {
            return Ok(None);
        }
        let by_runs = script.encode_unit(self.prefix, self.content, quick)?;
        if by_runs.len() * CLOSE_PART <= self.content.len() {
            return Ok(Some(script));
        }
        let (_, by_prefix) = self.with_prefix(self.content, quick)?;
        let is_shorter = by_runs.len() * 100 <= by_prefix.len() * FAST_PERCENT;
        Ok(is_shorter.then_some(script))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without repetition.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        let mut bytes = vec![0; len];
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    fn codec(prefix: &[u8], content: &[u8], is_code: bool) -> u32 {
        let found = runs(prefix, content);
        assert!(!found.is_empty());
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let script = Script::plain(len(prefix), len(content), found);
        let unit = PlainUnit {
            prefix,
            content,
            is_code,
        };
        let encoder = UnitEncoder::new(19);
        let (codec, stored) = unit.encode(encoder).unwrap();
        let others = [
            script.encode_unit(prefix, content, encoder).unwrap(),
            encoder.encode(prefix, content).unwrap(),
        ];
        // The fast frames differ a little from the best ones.
        let shortest = others.iter().map(Vec::len).min().unwrap();
        assert!(stored.len() * 10 <= shortest * 11);
        codec
    }

    #[test]
    fn programs_with_moved_addresses_are_differences() {
        let old = noise(1, 200_000);
        let mut new = old.clone();
        for at in (40..new.len()).step_by(12) {
            new[at] = new[at].wrapping_add(7);
        }
        assert_eq!(codec(&old, &new, true), UNIT_CODEC_RUNS);
    }

    /// Half of the words are others: the differences of two words are like noise, and the word is not.
    #[test]
    fn programs_with_many_changes_have_a_prefix() {
        let words = noise(1, 8 * 256);
        let choices = noise(2, 50_000);
        let text = |choice: &dyn Fn(usize) -> u8| -> Vec<u8> {
            let word = |at| &words[usize::from(choice(at)) * 8..][..8];
            (0..25_000).flat_map(word).copied().collect()
        };
        let old = text(&|at| choices[at]);
        let new = text(&|at| choices[at + at % 2 * 25_000]);
        assert_eq!(codec(&old, &new, false), UNIT_CODEC_ZSTD);
        assert_eq!(codec(&old, &new, true), UNIT_CODEC_X86);
    }
}
