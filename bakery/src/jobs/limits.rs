//! Bounds on the data of a sender in the spool, and on retries.

use std::time::Duration;

/// Bytes of one upload by default: a whole desktop system fits.
pub const BODY_LEN_MAX_DEFAULT: u64 = 16 << 30;
/// Uploads of one key that may wait for their bake at once.
pub const WAITING_OF_KEY_MAX: usize = 64;
/// Bytes of a job's small records. A report of 100,000 paths is 10 MiB.
pub const RECORD_LEN_MAX: u64 = 64 << 20;
/// Bytes of the line with which a push begins.
pub const OPENING_LEN_MAX: usize = 64 << 10;
/// Bytes of one frame of a push.
pub const FRAME_LEN_MAX: usize = 1 << 20;
/// Bytes of a message.
pub const MESSAGE_LEN_MAX: usize = 16 << 10;
/// Bytes of an author.
pub const AUTHOR_LEN_MAX: usize = 256;

/// Number of crashes of a baker on one job (a signal of its own making) before the job fails.
pub const CRASHES_MAX: u32 = 3;
/// Number of times a baker may be killed from outside before the job fails. High: restarting a
/// machine often must not lose a push, and the job stays in `failed/` with its body.
pub const KILLS_MAX: u32 = 100;
/// First pause after a baker's death; doubled each time.
pub const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest such pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Times a job is baked again because someone else published in between.
pub const RACES_MAX: u32 = 32;
