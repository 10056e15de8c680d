//! The four checksums that mkfs.btrfs offers.

use std::io;

use blake2::Blake2b;
use blake2::digest::consts::U32;
use sha2::{Digest as _, Sha256};

use crate::fields::crc32c;
use crate::walk::unknown;

/// Longest checksum, bytes.
pub(super) const SUM_LEN_MAX: usize = 32;

/// The algorithm of all checksums of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SumAlgorithm {
    Crc32c,
    XxHash64,
    Sha256,
    Blake2b,
}

impl SumAlgorithm {
    pub(super) fn parse(code: u16) -> io::Result<Self> {
        match code {
            0 => Ok(SumAlgorithm::Crc32c),
            1 => Ok(SumAlgorithm::XxHash64),
            2 => Ok(SumAlgorithm::Sha256),
            3 => Ok(SumAlgorithm::Blake2b),
            other => Err(unknown(format!(
                "checksums of kind {other} are not supported"
            ))),
        }
    }

    /// Bytes of a checksum.
    pub(super) fn len(self) -> usize {
        match self {
            SumAlgorithm::Crc32c => 4,
            SumAlgorithm::XxHash64 => 8,
            SumAlgorithm::Sha256 | SumAlgorithm::Blake2b => 32,
        }
    }

    /// True if `stored` begins with the checksum of `bytes`.
    pub(super) fn matches(self, bytes: &[u8], stored: &[u8]) -> bool {
        match self {
            SumAlgorithm::Crc32c => stored.starts_with(&crc32c(&[bytes]).to_le_bytes()),
            SumAlgorithm::XxHash64 => {
                let sum = twox_hash::XxHash64::oneshot(0, bytes);
                stored.starts_with(&sum.to_le_bytes())
            }
            SumAlgorithm::Sha256 => stored.starts_with(&Sha256::digest(bytes)),
            SumAlgorithm::Blake2b => stored.starts_with(&Blake2b::<U32>::digest(bytes)),
        }
    }
}
