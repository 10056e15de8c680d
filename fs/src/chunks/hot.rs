//! The contents of a boot pack by path: the pages of each file, in the order of their arrival.
//!
//! The mount sends it to `layerfs initramfs warm`. One record for each file of each chunk of the pack: 1 if
//! it is the first of its chunk (u8), row in the index (u32), path length (u16), path, number of
//! runs (u16), then first page and number of pages (u32 each) of every run; little-endian.

use layerfmt::Ino;
use wire::trace::PAGE_LEN;

use crate::limits::{HOT_PATH_LEN_MAX, HOT_RUNS_MAX};

/// The pages of one file in one chunk of the pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotFile {
    /// No preceding file of the list is in its chunk.
    pub begins_chunk: bool,
    /// The file's row in the revision's own index.
    pub row: Ino,
    /// From the root, without a slash in front.
    pub path: Vec<u8>,
    /// First page and number of pages.
    pub runs: Vec<(u32, u32)>,
}

impl HotFile {
    /// The runs in parts of at most `pages_max` pages: offset and length of each, bytes.
    pub fn parts(&self, pages_max: u32) -> impl Iterator<Item = (u64, usize)> {
        let cut = move |(first, count): &(u32, u32)| {
            let (first, end) = (*first, first.saturating_add(*count));
            let starts = (first..end).step_by(pages_max.max(1) as usize);
            starts.map(move |page| (page, pages_max.min(end - page)))
        };
        let bytes = |pages: u32| u64::from(pages) * PAGE_LEN;
        self.runs.iter().flat_map(cut).map(move |(page, count)| {
            let len = usize::try_from(bytes(count)).unwrap_or(usize::MAX);
            (bytes(page), len)
        })
    }
}

/// Encodes the records as bytes.
pub fn encode(files: &[HotFile]) -> Vec<u8> {
    let mut out = Vec::new();
    let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
    for file in files {
        out.push(u8::from(file.begins_chunk));
        out.extend_from_slice(&file.row.to_le_bytes());
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

/// Parses bytes; an invalid entry ends the list.
pub fn decode(mut bytes: &[u8]) -> Vec<HotFile> {
    let mut files = Vec::new();
    while let Some(file) = next(&mut bytes) {
        files.push(file);
    }
    files
}

fn next(bytes: &mut &[u8]) -> Option<HotFile> {
    let [begins_chunk] = *take(bytes)?;
    let row = Ino::from_le_bytes(*take(bytes)?);
    let path_len = usize::from(u16::from_le_bytes(*take(bytes)?));
    let (path, rest) = bytes.split_at_checked(path_len)?;
    *bytes = rest;
    let count = usize::from(u16::from_le_bytes(*take(bytes)?));
    if count > HOT_RUNS_MAX || path.len() > HOT_PATH_LEN_MAX {
        return None;
    }
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        let first = u32::from_le_bytes(*take(bytes)?);
        runs.push((first, u32::from_le_bytes(*take(bytes)?)));
    }
    Some(HotFile {
        begins_chunk: begins_chunk != 0,
        row,
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
    fn long_runs_come_in_parts() {
        let file = HotFile {
            begins_chunk: true,
            row: 1,
            path: Vec::new(),
            runs: vec![(3, 5), (u32::MAX - 1, 1)],
        };
        let page = |page: u64, count: usize| (page * 4096, count * 4096);
        let last = page(u64::from(u32::MAX) - 1, 1);
        let all: Vec<_> = file.parts(2).collect();
        assert_eq!(all, [page(3, 2), page(5, 2), page(7, 1), last]);
        assert_eq!(file.parts(u32::MAX).collect::<Vec<_>>(), [page(3, 5), last]);
    }

    #[test]
    fn what_is_encoded_is_decoded_and_a_torn_end_is_left_out() {
        let file = |path: &[u8], runs: &[(u32, u32)]| HotFile {
            begins_chunk: runs.len() == 2,
            row: 70_000,
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
