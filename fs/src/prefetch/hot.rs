//! What a boot pack holds, told by path: which pages of which files, in the order they arrive.
//!
//! The mount tells it to `layerfs warm`, a client like any other, which asks the kernel to read those
//! pages. So they come in large requests ahead of the boot, and the kernel alone decides what is in its
//! page cache. One record for each file of each chunk of the pack: 1 if it is the first of its chunk (u8),
//! path length (u16), path, number of runs (u16), then first page and number of pages (u32 each) of every
//! run; little endian.

use std::sync::Arc;

use layerfmt::trace::PAGE_LEN;
use layerfmt::{Index, Ino};

use crate::names::Names;
use crate::remote::object::Object;
use crate::remote::source::piece;

/// Most runs of one record: a file's in one chunk of at most 16 MiB.
const RUNS_MAX: usize = 4096;
/// Longest path, bytes: what Linux takes.
const PATH_LEN_MAX: usize = 4095;

/// Pages of one file that lie in one chunk of the pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotFile {
    /// Nothing before it in the list lies in its chunk.
    pub begins_chunk: bool,
    /// From the root, without a slash in front.
    pub path: Vec<u8>,
    /// First page and number of pages.
    pub runs: Vec<(u32, u32)>,
}

/// What the pack among `objects` has of the files of `index`.
pub(crate) fn hot_files(index: &Index, objects: &[Arc<Object>]) -> Vec<HotFile> {
    let mut runs: Vec<(u64, Ino, u32, u32)> = Vec::new();
    for ino in 0..index.inode_count() {
        for extent in index.extents(ino, 0..u64::MAX) {
            let chunk = index.chunk(extent.chunk);
            let Some(piece) = chunk.and_then(|chunk| piece(objects, &chunk)) else {
                continue;
            };
            let end = (extent.file_offset + u64::from(extent.len)).div_ceil(PAGE_LEN);
            let first = extent.file_offset / PAGE_LEN;
            if let (true, Ok(first), Ok(end)) = (
                piece.object.optional,
                u32::try_from(first),
                u32::try_from(end),
            ) {
                runs.push((piece.offset, ino, first, end));
            }
        }
    }
    runs.sort_unstable();
    let names = Names::new(index);
    let mut files: Vec<HotFile> = Vec::new();
    let mut last = None;
    for (chunk, ino, first, end) in runs {
        let known = files.last_mut().filter(|_| last == Some((chunk, ino)));
        let begins_chunk = last.is_none_or(|(before, _)| before != chunk);
        last = Some((chunk, ino));
        let Some(file) = known.filter(|file| file.runs.len() < RUNS_MAX) else {
            let path = names.path(index, ino);
            files.push(HotFile {
                begins_chunk,
                path: path.strip_prefix(b"/").unwrap_or_default().to_vec(),
                runs: vec![(first, end - first)],
            });
            continue;
        };
        match file.runs.last_mut() {
            Some((start, count)) if *start + *count >= first => {
                *count = end.max(*start + *count) - *start
            }
            _ => file.runs.push((first, end - first)),
        }
    }
    files.retain(|file| !file.path.is_empty() && file.path.len() <= PATH_LEN_MAX);
    files
}

/// As bytes.
pub(crate) fn encode(files: &[HotFile]) -> Vec<u8> {
    let mut out = Vec::new();
    let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
    for file in files {
        out.push(u8::from(file.begins_chunk));
        out.extend_from_slice(&short(file.path.len()));
        out.extend_from_slice(&file.path);
        out.extend_from_slice(&short(file.runs.len()));
        for (first, count) in &file.runs {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
    }
    out
}

/// From bytes; what does not make sense ends the list.
pub fn decode(mut bytes: &[u8]) -> Vec<HotFile> {
    let mut files = Vec::new();
    while let Some(file) = next(&mut bytes) {
        files.push(file);
    }
    files
}

fn next(bytes: &mut &[u8]) -> Option<HotFile> {
    let [begins_chunk] = *take(bytes)?;
    let path_len = usize::from(u16::from_le_bytes(*take(bytes)?));
    let (path, rest) = bytes.split_at_checked(path_len)?;
    *bytes = rest;
    let count = usize::from(u16::from_le_bytes(*take(bytes)?));
    if count > RUNS_MAX || path.len() > PATH_LEN_MAX {
        return None;
    }
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        let first = u32::from_le_bytes(*take(bytes)?);
        runs.push((first, u32::from_le_bytes(*take(bytes)?)));
    }
    Some(HotFile {
        begins_chunk: begins_chunk != 0,
        path: path.to_vec(),
        runs,
    })
}

fn take<'b, const N: usize>(bytes: &mut &'b [u8]) -> Option<&'b [u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_a_torn_end_is_left_out() {
        let file = |path: &[u8], runs: &[(u32, u32)]| HotFile {
            begins_chunk: runs.len() == 2,
            path: path.to_vec(),
            runs: runs.to_vec(),
        };
        let files = [
            file(b"usr/lib/a\nb", &[(0, 3), (70_000, 1)]),
            file(b"bin/sh", &[]),
            file(b"etc/\xff", &[(5, 5)]),
        ];
        let bytes = encode(&files);
        assert_eq!(decode(&bytes), files);
        for cut in 0..bytes.len() {
            let some = decode(&bytes[..cut]);
            assert!(
                some.len() < files.len() && files.starts_with(&some),
                "{cut}"
            );
        }
        assert!(decode(&[0xff; 64]).is_empty());
    }
}
