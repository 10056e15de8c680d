//! Chunks: map the addresses of trees and files to places in the image.

use std::io;

use super::tree::ItemKey;
use crate::fields::{le16, le64};
use crate::limits::BTRFS_CHUNKS_MAX;
use crate::walk::{damaged, unknown};
use crate::window::Window;

/// Bytes of a chunk before its copies, and of a copy.
const HEADER_LEN: usize = 48;
const COPY_LEN: usize = 32;
/// Type and length of the key of a chunk.
const CHUNK_KIND: u8 = 228;
const KEY_LEN: usize = 17;

/// Profiles whose stripes are copies of each other: RAID 1, DUP, RAID 1 with 3 and 4 copies.
const COPIES: u64 = 1 << 4 | 1 << 5 | 1 << 9 | 1 << 10;
/// Other profiles, with their names.
const STRIPED: [(u64, &str); 4] = [
    (1 << 3, "RAID 0"),
    (1 << 6, "RAID 10"),
    (1 << 7, "RAID 5"),
    (1 << 8, "RAID 6"),
];

/// Consecutive addresses that are consecutive in the image.
#[derive(Debug)]
struct BtrfsChunk {
    address: u64,
    len: u64,
    /// Offset in the image of each copy.
    copies: Vec<u64>,
}

/// An image and its chunks.
#[derive(Debug)]
pub(super) struct BtrfsVolume {
    image: Window,
    device: u64,
    /// All chunks, in the order of their addresses.
    chunks: Vec<BtrfsChunk>,
}

impl BtrfsVolume {
    /// The image with the chunks that the superblock lists.
    pub(super) fn new(image: Window, device: u64, listed: &[u8]) -> io::Result<Self> {
        let mut volume = BtrfsVolume {
            image,
            device,
            chunks: Vec::new(),
        };
        let mut rest = listed;
        while !rest.is_empty() {
            let key = ItemKey::parse(rest, 0)?;
            let item = rest.get(KEY_LEN..).unwrap_or_default();
            let len = HEADER_LEN + usize::from(le16(item, 44)?) * COPY_LEN;
            let (Some(chunk), CHUNK_KIND) = (item.get(..len), key.kind) else {
                return Err(damaged("its list of chunks is damaged"));
            };
            volume.add(key.offset, chunk)?;
            rest = item.get(len..).unwrap_or_default();
        }
        Ok(volume)
    }

    /// Forgets all chunks.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
    }

    /// Adds the chunk of an item.
    pub(super) fn add(&mut self, address: u64, item: &[u8]) -> io::Result<()> {
        let (len, profile, stripes) = (le64(item, 0)?, le64(item, 24)?, le16(item, 44)?);
        let striped = STRIPED.iter().find(|(flag, _)| profile & flag != 0);
        if let Some((_, name)) = striped.filter(|_| stripes != 1) {
            let problem = format!(
                "it is {name}, which is not supported; mount it read-only and name the directory"
            );
            return Err(unknown(problem));
        }
        if stripes == 0 || stripes > 1 && profile & COPIES == 0 {
            return Err(damaged(format!("the chunk at {address} is damaged")));
        }
        let mut copies = Vec::new();
        for place in 0..usize::from(stripes) {
            let at = HEADER_LEN + place * COPY_LEN;
            if le64(item, at)? == self.device {
                copies.push(le64(item, at + 8)?);
            }
        }
        let place = self.chunks.partition_point(|chunk| chunk.address < address);
        let before = place.checked_sub(1).and_then(|last| self.chunks.get(last));
        let begins = before.map_or(0, |before| before.address + before.len);
        let next = self.chunks.get(place).map_or(u64::MAX, |next| next.address);
        let fits = address >= begins && address.checked_add(len).is_some_and(|end| end <= next);
        if copies.is_empty() || len == 0 || !fits || self.chunks.len() >= BTRFS_CHUNKS_MAX {
            return Err(damaged(format!("the chunk at {address} is damaged")));
        }
        let chunk = BtrfsChunk {
            address,
            len,
            copies,
        };
        self.chunks.insert(place, chunk);
        Ok(())
    }

    /// Fills `buffer` from `address` in the given copy. False if there are not so many copies.
    pub(super) fn read(&self, address: u64, copy: usize, buffer: &mut [u8]) -> io::Result<bool> {
        let next = self
            .chunks
            .partition_point(|chunk| chunk.address <= address);
        let chunk = next.checked_sub(1).and_then(|last| self.chunks.get(last));
        let found = chunk.and_then(|chunk| {
            let inside = address - chunk.address;
            let fits = inside.checked_add(buffer.len() as u64)? <= chunk.len;
            fits.then_some((chunk, inside))
        });
        let (chunk, inside) =
            found.ok_or_else(|| damaged(format!("address {address} is in no chunk")))?;
        let Some(start) = chunk.copies.get(copy) else {
            return Ok(false);
        };
        let offset = start.checked_add(inside);
        let offset = offset.ok_or_else(|| damaged("a chunk is outside the image"))?;
        self.image.read_exact_at(buffer, offset)?;
        Ok(true)
    }
}
