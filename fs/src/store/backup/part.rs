//! A layer file being filled: bytes at their final places, and a list of the chunks that are present.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use layerfmt::{Chunk, Digest};

use super::lock;

/// A file named `….part`.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: File,
    have: Mutex<HashSet<u64>>,
}

impl Part {
    pub(super) fn new(file: File) -> Part {
        Part {
            file,
            have: Mutex::default(),
        }
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        if self.has(offset) {
            return Ok(());
        }
        self.file.write_all_at(bytes, offset)?;
        lock(&self.have).insert(offset);
        Ok(())
    }

    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Option<()> {
        if !self.has(offset) {
            return None;
        }
        self.file.read_exact_at(bytes, offset).ok()
    }

    /// True if a chunk was written at `offset`.
    pub(super) fn has(&self, offset: u64) -> bool {
        lock(&self.have).contains(&offset)
    }

    /// Finds the chunks that an earlier mount wrote: by their digests, so a torn write is not one of them.
    pub(super) fn recover(&self, chunks: &[Chunk]) {
        let mut bytes = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !self.has(chunk.offset)) {
            bytes.clear();
            bytes.resize(chunk.stored_len as usize, 0);
            if self.file.read_exact_at(&mut bytes, chunk.offset).is_err() {
                continue;
            }
            if Digest::of(&bytes) == chunk.digest {
                lock(&self.have).insert(chunk.offset);
            }
        }
    }
}
