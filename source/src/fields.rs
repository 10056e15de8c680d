//! Numbers in records on a disk: no offset is trusted.

use std::io;

use super::walk::damaged;

/// The bytes at `at`.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found
        .copied()
        .ok_or_else(|| damaged("a structure is cut off"))
}

/// `len` bytes from `at` on.
pub(super) fn slice(bytes: &[u8], at: usize, len: usize) -> io::Result<&[u8]> {
    let found = bytes.get(at..).and_then(|rest| rest.get(..len));
    found.ok_or_else(|| damaged("a structure is cut off"))
}

/// The little-endian number of 16 bits at `at`.
pub(super) fn le16(bytes: &[u8], at: usize) -> io::Result<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

/// The little-endian number of 32 bits at `at`.
pub(super) fn le32(bytes: &[u8], at: usize) -> io::Result<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

/// The little-endian number of 64 bits at `at`.
pub(super) fn le64(bytes: &[u8], at: usize) -> io::Result<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// The big-endian number of 16 bits at `at`.
pub(super) fn be16(bytes: &[u8], at: usize) -> io::Result<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// The big-endian number of 32 bits at `at`.
pub(super) fn be32(bytes: &[u8], at: usize) -> io::Result<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// The big-endian number of 64 bits at `at`.
pub(super) fn be64(bytes: &[u8], at: usize) -> io::Result<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

/// The byte at `at`.
pub(super) fn byte(bytes: &[u8], at: usize) -> io::Result<u8> {
    array(bytes, at).map(|[byte]| byte)
}

/// The CRC-32C of `parts`, one after the other.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    // A checksum of 32 bits is in the low half.
    (digest.finalize() & u64::from(u32::MAX)) as u32
}
