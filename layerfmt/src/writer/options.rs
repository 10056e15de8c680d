//! Options for writing a layer.

use std::cmp::Ordering;

use zstd::zstd_safe::Strategy;

use crate::codec::{Effort, Tuned};

/// Options for writing a layer.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Compression effort.
    pub effort: Effort,
    /// Raw length at which a chunk is closed, bytes.
    pub chunk_len: u32,
    /// How large files are stored, if differently.
    pub large: Option<LargeFiles>,
    /// Compression threads; the result does not depend on it.
    pub threads: usize,
}

/// Storage of large files, which programs read at random or map: shorter chunks, because a read of
/// one page decodes its chunk, and more effort, because shorter chunks compress less.
#[derive(Debug, Clone, Copy)]
pub struct LargeFiles {
    /// Size of the smallest large file, bytes.
    pub file_len_min: u64,
    /// Raw length at which a chunk of a large file is closed, bytes.
    pub chunk_len: u32,
    /// Compression effort.
    pub effort: Effort,
}

impl LargeFiles {
    fn with(effort: Effort) -> LargeFiles {
        LargeFiles {
            file_len_min: 4 << 20,
            chunk_len: 128 << 10,
            effort,
        }
    }
}

impl Options {
    /// Options for a bake: 256 KiB chunks (128 KiB in large files), and a match finder that gives smaller
    /// files in less time than squashfs' zstd -15 at 128 KiB on a sample (docs/BENCHMARKS.md, Compression
    /// parameters).
    pub fn bake() -> Options {
        let tuned = Tuned {
            strategy: Strategy::ZSTD_btopt,
            window_log: 18,
            hash_log: 17,
            chain_log: 18,
            search_log: 3,
            min_match: 3,
            target_length: 24,
            block_len_max: 64 << 10,
        };
        let effort = |tuned| Effort {
            level: 14,
            tuned: Some(tuned),
        };
        let large = Tuned {
            strategy: Strategy::ZSTD_btultra,
            window_log: 17,
            search_log: 4,
            target_length: 32,
            ..tuned
        };
        Options {
            effort: effort(tuned),
            chunk_len: 256 << 10,
            large: Some(LargeFiles::with(effort(large))),
            threads: threads(),
        }
    }

    /// The efforts with which a bake or a recompression may have compressed a chunk of `raw_len` bytes,
    /// the likeliest first.
    pub(crate) fn efforts(raw_len: usize) -> Vec<Effort> {
        let (bake, compact) = (Options::bake(), Options::compact());
        let mut efforts = vec![bake.effort, compact.effort];
        if let Some(large) = bake.large {
            match raw_len.cmp(&(large.chunk_len as usize)) {
                Ordering::Less => efforts.insert(1, large.effort),
                Ordering::Equal => efforts.insert(0, large.effort),
                Ordering::Greater => {}
            }
        }
        efforts
    }

    /// A bake at one of zstd's own levels, 1 (fast) to 22 (small): chunks as long as those of
    /// [`Options::bake`].
    pub fn level(level: i32) -> Options {
        let effort = Effort::level(level);
        Options {
            effort,
            large: Some(LargeFiles::with(effort)),
            ..Options::bake()
        }
    }

    /// Options for a recompressing compaction: 1 MiB chunks at the highest level.
    pub fn compact() -> Options {
        Options {
            effort: Effort::level(22),
            chunk_len: 1 << 20,
            large: None,
            threads: threads(),
        }
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}
