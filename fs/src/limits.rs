//! Bounds on untrusted input, each with its reason.

use std::time::Duration;

use layerfmt::{limits, update::PREAMBLE_LEN};

/// Maximum number of keyset versions, or of revisions above the hint, to request from a static
/// server.
pub(crate) const KEYSET_STEPS_MAX: u64 = 1000;

/// Longest hint: a decimal number and a newline.
pub(crate) const HINT_LEN_MAX: usize = 32;

/// Largest number of update packs of which a server can tell.
pub(crate) const UPDATES_TOLD_MAX: usize = 64;

/// Most redirects of one request.
pub(crate) const REDIRECTS_MAX: usize = 4;

/// Longest path a redirect may lead to.
pub(crate) const REDIRECT_PATH_LEN_MAX: usize = 2048;

/// Longest time that a `Retry-After` is obeyed.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Maximum length of a stored index head.
pub(crate) const INDEX_LEN_MAX: usize = 512 << 20;

/// Most proofs read: each update leaves one, for as long as its chunks are in use.
pub(crate) const PROOF_COUNT_MAX: usize = 256;

/// Longest proof: record and head of an update pack.
pub(crate) const PROOF_LEN_MAX: usize = 65 << 20;

/// Superblock and sections of one layer are at most this long.
pub(crate) const SECTIONS_LEN_MAX: u64 = 4 << 30;

/// Most bytes before the first unit: record, head and index.
pub(crate) const UPDATE_BEGINNING_LEN_MAX: u64 = limits::UPDATE_INDEX_WINDOW_LEN_MAX
    + limits::UPDATE_HEAD_LEN_MAX as u64
    + limits::UPDATE_RECORD_LEN_MAX as u64
    + PREAMBLE_LEN as u64;

/// Most runs of one record: a file's in one chunk of at most 16 MiB.
pub(crate) const HOT_RUNS_MAX: usize = 4096;

/// Maximum length of a path in bytes: that of Linux.
pub(crate) const HOT_PATH_LEN_MAX: usize = 4095;

/// Longest line we read from the server: a report of many paths.
pub(crate) const PUSH_LINE_LEN_MAX: u64 = 64 << 20;

/// Lines of `ssh`'s own messages that are repeated in an error.
pub(crate) const COMPLAINTS_MAX: usize = 8;

/// Longest name, its final zero included.
pub(crate) const CPIO_NAME_LEN_MAX: u64 = 4096;

/// Longest answer, bytes: the kernel's own limit of an attribute's value.
pub(crate) const ANSWER_LEN_MAX: usize = 65536;

/// Maximum number of parts of an answer.
pub(crate) const ANSWER_PARTS_MAX: usize = 64;

/// Longest status, bytes: the kernel's own limit of an attribute's value.
pub(crate) const STATUS_LEN_MAX: usize = 65536;

/// Maximum depth of a leftover tree that is removed; a deeper one is not ours.
pub(crate) const LEFTOVER_DEPTH_MAX: u32 = 64;
