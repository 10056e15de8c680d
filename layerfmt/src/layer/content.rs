//! The CONTENT section: digests of uncompressed content. The bakery compares and deduplicates by
//! them; a mount never fetches them.

use crate::digest::{DIGEST_LEN, Digest};
use crate::error::{FormatError, Result};
use crate::index::{Index, Ino};

/// A digest for every inode (zero unless a regular file), then one for every chunk's raw bytes.
#[derive(Debug, Clone)]
pub struct ContentDigests {
    raw: Vec<u8>,
    inodes: u32,
}

impl ContentDigests {
    /// Check an uncompressed CONTENT section against its index.
    ///
    /// # Errors
    /// When its length does not follow from the index.
    pub fn decode(raw: Vec<u8>, index: &Index) -> Result<ContentDigests> {
        let rows = index.inode_count() as usize + index.chunk_count() as usize;
        if raw.len() != rows * DIGEST_LEN {
            let what = format!("{} bytes for {rows} digests", raw.len());
            return Err(FormatError::corrupt("CONTENT", 0, what));
        }
        Ok(ContentDigests {
            raw,
            inodes: index.inode_count(),
        })
    }

    pub(crate) fn from_parts(files: Vec<[u8; DIGEST_LEN]>, chunks: &[Digest]) -> ContentDigests {
        let inodes = files.len() as u32;
        let mut raw = files.into_flattened();
        raw.reserve_exact(chunks.len() * DIGEST_LEN);
        for digest in chunks {
            raw.extend_from_slice(&digest.0);
        }
        ContentDigests { raw, inodes }
    }

    /// The uncompressed section.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw
    }

    fn row(&self, row: usize) -> Digest {
        let bytes = self
            .raw
            .get(row * DIGEST_LEN..)
            .and_then(|rest| rest.first_chunk());
        Digest(bytes.copied().unwrap_or_default())
    }

    /// The content digest of regular file `ino`; zero for anything else.
    pub fn file(&self, ino: Ino) -> Digest {
        if ino < self.inodes {
            self.row(ino as usize)
        } else {
            Digest::default()
        }
    }

    /// The digest of the decoded bytes of chunk `id`.
    pub fn chunk(&self, id: u32) -> Digest {
        self.row(self.inodes as usize + id as usize)
    }
}
