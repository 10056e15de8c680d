//! Bounds on untrusted input, each with its reason.

use std::time::Duration;

use layerfmt::{limits, update::PREAMBLE_LEN};

/// Maximum number of keyset versions, or of revisions above the hint, to request from a static
/// server.
pub(crate) const KEYSET_STEPS_MAX: u64 = 1000;

/// Longest hint of the newest revision, bytes: a decimal number and a newline.
pub(crate) const HINT_LEN_MAX: usize = 32;

/// Longest file of stored row numbers, bytes: one run for each of 2^24 rows, and marks of a million
/// objects.
pub(crate) const NUMBERING_LEN_MAX: usize = 256 << 20;

/// Largest first number of objects that only the upper has in such a file: twice the power of two above
/// the rows of the largest index.
pub(crate) const NUMBERS_BASE_MAX: u64 = 2 * limits::INODES_MAX as u64;

/// Most update packs that an answer of a server can name.
pub(crate) const UPDATES_TOLD_MAX: usize = 64;

/// Most redirects of one request.
pub(crate) const REDIRECTS_MAX: usize = 4;

/// Longest path of a redirect, bytes.
pub(crate) const REDIRECT_PATH_LEN_MAX: usize = 2048;

/// Longest `Retry-After` that is obeyed.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Longest stored INDEX, bytes.
pub(crate) const INDEX_LEN_MAX: usize = 512 << 20;

/// Most proofs of update packs that a cache keeps: one each, for as long as its chunks are in use.
pub(crate) const PROOF_COUNT_MAX: usize = 256;

/// Longest proof, bytes: record and head of an update pack.
pub(crate) const PROOF_LEN_MAX: usize = 65 << 20;

/// Longest superblock and sections of one layer, bytes.
pub(crate) const SECTIONS_LEN_MAX: u64 = 4 << 30;

/// Most bytes before the first unit of an update pack: record, head and index.
pub(crate) const UPDATE_BEGINNING_LEN_MAX: u64 = limits::UPDATE_INDEX_WINDOW_LEN_MAX
    + limits::UPDATE_HEAD_LEN_MAX as u64
    + limits::UPDATE_RECORD_LEN_MAX as u64
    + PREAMBLE_LEN as u64;

/// Most runs of one record of the hot list: those of a file in one chunk of at most 16 MiB.
pub(crate) const HOT_RUNS_MAX: usize = 4096;

/// Longest path in the hot list, bytes: that of Linux.
pub(crate) const HOT_PATH_LEN_MAX: usize = 4095;

/// Longest line of the server's answer to a push, bytes: a report of many paths.
pub(crate) const PUSH_LINE_LEN_MAX: u64 = 64 << 20;

/// Most lines of messages of `ssh` that an error quotes.
pub(crate) const COMPLAINTS_MAX: usize = 8;

/// Longest name of a member of a cpio archive, its final zero included.
pub(crate) const CPIO_NAME_LEN_MAX: u64 = 4096;

/// Longest answer to a control question, bytes: the kernel's own limit of an attribute's value.
pub(crate) const ANSWER_LEN_MAX: usize = 65536;

/// Bytes of a long answer that one question brings.
pub(crate) const ANSWER_PART_LEN: usize = 60_000;

/// Most parts of an answer to a control question.
pub(crate) const ANSWER_PARTS_MAX: usize = 64;

/// Longest status, bytes: the kernel's own limit of an attribute's value.
pub(crate) const STATUS_LEN_MAX: usize = 65536;

/// Greatest depth of a leftover tree that is removed; a deeper one is not ours.
pub(crate) const LEFTOVER_DEPTH_MAX: u32 = 64;

/// Most bytes of decoded chunks beyond the chunk cache, in reclaimable memory: more than the large
/// programs of a workstation have.
pub(crate) const SURPLUS_LEN_MAX: u64 = 1 << 30;

/// They take at most this part of the machine's memory.
pub(crate) const SURPLUS_SHARE: u64 = 8;

/// Longest look for the next request after an answer: longer than a program needs between two calls,
/// shorter than the wake-up of a thread on another processor.
pub(crate) const LINGER_TIME: Duration = Duration::from_micros(30);

/// Most answers without a look after a vain one: the looks then cost 30 ns for each answer.
pub(crate) const LOOKS_SKIPPED_MAX: u32 = 1023;
