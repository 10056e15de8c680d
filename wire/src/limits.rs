//! Bounds on untrusted input of the protocol, each with its reason.

/// Ranges of one batch request; at 4 KiB each that is 16 MiB.
pub const BATCH_RANGES_MAX: usize = 4096;
/// Bytes that one batch request may ask for: the server maps or fetches all of them at once.
pub const BATCH_LEN_MAX: u64 = 64 << 20;

/// Segments of one sparse file in an archive: a 64 GiB file with every second 64 KiB in use has half
/// of them.
pub(crate) const SPARSE_SEGMENTS_MAX: usize = 1 << 20;

/// Longest merged index with index deltas, stored bytes: encoding and decoding one needs memory for the
/// raw form of both ends, ten times as long.
pub const DELTA_INDEX_LEN_MAX: u64 = 4 << 20;
