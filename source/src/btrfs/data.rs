//! The bytes of files, checked against their checksums.

use std::io;

use super::compression::ExtentCompression;
use super::extents::{FileExtent, StoredBytes};
use super::subvolumes::tree_of;
use super::tree::{ItemKey, TreePointer, Trees};
use crate::fields::slice;
use crate::limits::BTRFS_COMPRESSED_LEN_MAX;
use crate::walk::damaged;

/// The tree of the checksums of data, and the key of its items.
const SUM_TREE: u64 = 7;
const SUMS: u64 = u64::MAX - 9;
const SUM_KIND: u8 = 128;
/// Bytes read at once where nothing is compressed.
const STEP_LEN: u64 = 256 << 10;

/// Reads the data of files, and looks up its checksums.
#[derive(Debug)]
pub(super) struct DataReader {
    sums: TreePointer,
    /// The checksums of the sectors from an address on.
    known: (u64, Vec<u8>),
}

impl DataReader {
    pub(super) fn new(trees: &mut Trees) -> io::Result<Self> {
        Ok(DataReader {
            sums: tree_of(trees, SUM_TREE)?,
            known: (0, Vec::new()),
        })
    }

    /// Reads at least one byte of an extent, from byte `inside` of the extent on.
    pub(super) fn read(
        &mut self,
        trees: &mut Trees,
        extent: &FileExtent,
        inside: u64,
        has_sums: bool,
    ) -> io::Result<Vec<u8>> {
        let wrong = || damaged("one of its extents is damaged");
        let (address, stored_len) = match &extent.stored {
            StoredBytes::Inside(bytes) => {
                let plain = plain(trees, extent, bytes)?;
                return cut(plain, extent.skip + inside, extent.len - inside);
            }
            StoredBytes::At(address, len) => (*address, *len),
        };
        let sector_len = trees.superblock.sector_len as u64;
        if !address.is_multiple_of(sector_len) || !stored_len.is_multiple_of(sector_len) {
            return Err(wrong());
        }
        if extent.compression == ExtentCompression::None {
            let at = extent.skip + inside;
            let start = at - at % sector_len;
            let missing = extent.skip + extent.len - start;
            let len = missing.next_multiple_of(sector_len).min(STEP_LEN);
            let bytes = self.sectors(trees, address + start, len, has_sums)?;
            return cut(bytes, at - start, extent.len - inside);
        }
        if stored_len > BTRFS_COMPRESSED_LEN_MAX {
            return Err(wrong());
        }
        let bytes = self.sectors(trees, address, stored_len, has_sums)?;
        let plain = plain(trees, extent, &bytes)?;
        cut(plain, extent.skip + inside, extent.len - inside)
    }

    /// Reads whole sectors, from the first copy in which all of them are intact.
    fn sectors(
        &mut self,
        trees: &mut Trees,
        address: u64,
        len: u64,
        has_sums: bool,
    ) -> io::Result<Vec<u8>> {
        let sums = match has_sums {
            true => Some(self.sums(trees, address, len)?),
            false => None,
        };
        let superblock = &trees.superblock;
        let (algorithm, sector_len) = (superblock.algorithm, superblock.sector_len);
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        let mut copy = 0;
        while trees.volume.read(address, copy, &mut bytes)? {
            let is_sound = sums.as_ref().is_none_or(|sums| {
                let mut pairs = bytes.chunks(sector_len).zip(sums.chunks(algorithm.len()));
                pairs.all(|(sector, sum)| algorithm.matches(sector, sum))
            });
            if is_sound {
                return Ok(bytes);
            }
            copy += 1;
        }
        Err(damaged(format!(
            "its data at address {address} does not match its checksum"
        )))
    }

    /// The checksums of `len` bytes from `address` on, one after the other.
    fn sums(&mut self, trees: &mut Trees, address: u64, len: u64) -> io::Result<Vec<u8>> {
        let sector_len = trees.superblock.sector_len as u64;
        let sum_len = trees.superblock.algorithm.len();
        let mut sums = Vec::new();
        for sector in 0..len / sector_len {
            let address = address + sector * sector_len;
            let known = self.known_sum(address, sector_len, sum_len);
            if let Some(sum) = known {
                sums.extend_from_slice(sum);
                continue;
            }
            let found = trees.floor(
                self.sums,
                ItemKey {
                    object: SUMS,
                    kind: SUM_KIND,
                    offset: address,
                },
            )?;
            let found = found.filter(|(key, _)| (key.object, key.kind) == (SUMS, SUM_KIND));
            if let Some((key, item)) = found {
                self.known = (key.offset, item);
            }
            let sum = self.known_sum(address, sector_len, sum_len);
            let problem = || damaged(format!("its data at address {address} has no checksum"));
            sums.extend_from_slice(sum.ok_or_else(problem)?);
        }
        Ok(sums)
    }

    fn known_sum(&self, address: u64, sector_len: u64, sum_len: usize) -> Option<&[u8]> {
        let (start, sums) = &self.known;
        let place = usize::try_from(address.checked_sub(*start)? / sector_len).ok()?;
        slice(sums, place.checked_mul(sum_len)?, sum_len).ok()
    }
}

/// The bytes of an extent after decompression.
fn plain(trees: &Trees, extent: &FileExtent, stored: &[u8]) -> io::Result<Vec<u8>> {
    // Bytes inside an item are no more than a block has.
    if extent.plain_len > BTRFS_COMPRESSED_LEN_MAX {
        return Err(damaged("one of its extents is damaged"));
    }
    let len = usize::try_from(extent.plain_len).map_err(io::Error::other)?;
    let plain = extent
        .compression
        .plain(stored, len, trees.superblock.sector_len);
    plain.map_err(|cause| {
        damaged(format!(
            "one of its extents cannot be decompressed: {cause}"
        ))
    })
}

/// At most `len` of `bytes`, from `start` on.
fn cut(mut bytes: Vec<u8>, start: u64, len: u64) -> io::Result<Vec<u8>> {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    if start >= bytes.len() {
        return Err(damaged("one of its extents is damaged"));
    }
    bytes.drain(..start);
    bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
    Ok(bytes)
}
