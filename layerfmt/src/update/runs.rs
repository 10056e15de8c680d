//! Runs: bytes of a unit's content that are encoded as differences from bytes of its prefix
//! (`docs/FORMAT.md` §18). A program that was built again differs from its old version in many
//! addresses, a few bytes apart. Its differences are mostly zeros, which compress far better than
//! the many short matches.

use super::head::corrupt;
use crate::error::Result;
use crate::sys::buffer_for;

/// Columns of a run: gap, source and length.
const COLUMNS: usize = 3;
/// Bytes of a run in a script.
pub(super) const RUN_LEN: usize = COLUMNS * 4;

/// Bytes of the content that are encoded as differences to as many bytes of the prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Run {
    /// Position in the content.
    pub at: u32,
    /// Position in the prefix.
    pub from: u32,
    /// Length of the run, bytes.
    pub len: u32,
}

impl Run {
    fn end(self) -> u64 {
        u64::from(self.at) + u64::from(self.len)
    }

    fn source_end(self) -> u64 {
        u64::from(self.from) + u64::from(self.len)
    }
}

/// The plane of the lowest bytes of all columns, then the next planes.
pub(super) fn encode(runs: &[Run]) -> Vec<u8> {
    let before = std::iter::once(Run::default()).chain(runs.iter().copied());
    let gaps = runs.iter().zip(before.clone());
    let gaps = gaps.map(|(run, before)| run.at.wrapping_sub(before.at.wrapping_add(before.len)));
    let sources = runs.iter().zip(before);
    let sources =
        sources.map(|(run, before)| run.from.wrapping_sub(before.from.wrapping_add(before.len)));
    let lens = runs.iter().map(|run| run.len);
    let words: Vec<[u8; 4]> = gaps
        .chain(sources)
        .chain(lens)
        .map(u32::to_le_bytes)
        .collect();
    (0..4)
        .flat_map(|plane| {
            words
                .iter()
                .filter_map(move |word| word.get(plane).copied())
        })
        .collect()
}

/// Reads the planes, and checks that each run is in the content and in the prefix.
///
/// # Errors
/// The first broken rule.
pub(super) fn decode(planes: &[u8], prefix_len: u64, content_len: u64) -> Result<Vec<Run>> {
    let words = planes.len() / 4;
    let count = words / COLUMNS;
    let word = |at: usize| {
        let byte = |plane: usize| planes.get(plane * words + at).copied().unwrap_or(0);
        u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
    };
    let mut runs = Vec::with_capacity(count);
    let mut before = Run::default();
    for row in 0..count {
        let len = word(2 * count + row);
        let at = before.end() + u64::from(word(row));
        let moved = i64::from(word(count + row).cast_signed());
        let from = before.source_end().checked_add_signed(moved);
        let from = from.filter(|from| from + u64::from(len) <= prefix_len);
        let at = Some(at).filter(|at| at + u64::from(len) <= content_len && len > 0);
        // Both positions are below a length that the limits keep far below 4 GiB.
        let fitting = at.zip(from).map(|(at, from)| (at as u32, from as u32));
        let Some((at, from)) = fitting else {
            return Err(corrupt(
                row,
                "a run is empty or outside the content or the prefix",
            ));
        };
        before = Run { at, from, len };
        runs.push(before);
    }
    Ok(runs)
}

/// The differences of all runs, then the bytes outside of the runs.
pub(super) fn split(runs: &[Run], prefix: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    let mut coded = Vec::with_capacity(content.len());
    for run in runs {
        let (new, old) = (
            part(content, run.at, run.len)?,
            part(prefix, run.from, run.len)?,
        );
        coded.extend(new.iter().zip(old).map(|(new, old)| new.wrapping_sub(*old)));
    }
    let mut at = 0;
    for run in runs {
        coded.extend_from_slice(content.get(at..run.at as usize)?);
        at = run.at as usize + run.len as usize;
    }
    coded.extend_from_slice(content.get(at..)?);
    Some(coded)
}

/// The content, from the decoded frame; `None` if the runs do not fit.
pub(super) fn join(runs: &[Run], prefix: &[u8], coded: &[u8]) -> Option<Vec<u8>> {
    let differences_len = runs.iter().map(|run| run.len as usize).sum();
    let (mut differences, mut rest) = coded.split_at_checked(differences_len)?;
    let mut content = buffer_for(coded.len());
    if content.capacity() < coded.len() {
        return None;
    }
    for run in runs {
        let gap = (run.at as usize).checked_sub(content.len())?;
        let (outside, after) = rest.split_at_checked(gap)?;
        content.extend_from_slice(outside);
        rest = after;
        let (inside, after) = differences.split_at_checked(run.len as usize)?;
        let old = part(prefix, run.from, run.len)?;
        content.extend(
            inside
                .iter()
                .zip(old)
                .map(|(new, old)| new.wrapping_add(*old)),
        );
        differences = after;
    }
    content.extend_from_slice(rest);
    Some(content)
}

fn part(bytes: &[u8], start: u32, len: u32) -> Option<&[u8]> {
    bytes.get(start as usize..)?.get(..len as usize)
}
