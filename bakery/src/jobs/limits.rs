//! Bounds on the data of a sender in the spool, and on retries.

use std::time::Duration;

/// Bytes of one upload by default: a whole desktop system fits.
pub(crate) const BODY_LEN_MAX_DEFAULT: u64 = 16 << 30;
/// Uploads of one key that may wait for their bake at once.
pub(crate) const WAITING_OF_KEY_MAX: usize = 64;
/// Bytes of a job's small records. A report of 100,000 paths is 10 MiB.
pub(crate) const RECORD_LEN_MAX: u64 = 64 << 20;
/// Bytes of the line with which a push begins.
pub(crate) const OPENING_LEN_MAX: usize = 64 << 10;
/// Bytes of one frame of a push.
pub(crate) const FRAME_LEN_MAX: usize = 1 << 20;
/// Bytes of a message.
pub(crate) const MESSAGE_LEN_MAX: usize = 16 << 10;
/// Bytes of an author.
pub(crate) const AUTHOR_LEN_MAX: usize = 256;

/// Number of crashes of a baker on one job (a signal of its own making) before the job fails.
pub(crate) const CRASHES_MAX: u32 = 3;
/// Number of times a baker may be killed from outside before the job fails. High: restarting a
/// machine often must not lose a push, and the job stays in `failed/` with its body.
pub(crate) const KILLS_MAX: u32 = 100;
/// First pause after a baker's death; doubled each time.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest such pause.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(60);
