//! Mapped files for sending.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use memmap2::Mmap;

/// The mapped files of a server. Finds the file and the offset that belong to bytes of a mapping,
/// so that the kernel can send them from the file itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct MappedFiles {
    /// By the address of the first byte.
    by_address: Arc<RwLock<BTreeMap<usize, MappedRange>>>,
}

#[derive(Debug, Clone)]
struct MappedRange {
    len: usize,
    file: Arc<File>,
}

/// A part of a mapped file.
#[derive(Debug)]
pub(crate) struct FilePart {
    /// The file, open for reading.
    pub(crate) file: Arc<File>,
    /// Offset of the part in bytes.
    pub(crate) offset: u64,
}

/// A mapping that is known under its address for as long as it lives.
struct KnownMapping {
    map: Mmap,
    files: MappedFiles,
}

impl AsRef<[u8]> for KnownMapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for KnownMapping {
    fn drop(&mut self) {
        // This runs before the mapping itself ends: the address is not yet another's.
        let mut known = self.files.by_address.write();
        let known = known.as_mut().unwrap_or_else(|broken| broken.get_mut());
        known.remove(&self.map.as_ptr().addr());
    }
}

impl MappedFiles {
    /// Maps a whole file for sending. An empty file gives empty bytes.
    ///
    /// The caller gives only files of the store, which are written under another name, made
    /// complete, and then only ever renamed or unlinked, never written again.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    pub(crate) fn map(&self, file: File) -> io::Result<Bytes> {
        if file.metadata()?.len() == 0 {
            return Ok(Bytes::new());
        }
        // SAFETY: the bytes must not change under us. Store objects are immutable (above), and the
        // mapping holds its own reference to the inode, so deletion does not matter. Should an
        // operator truncate one by hand, a connection that sends it ends with an error of the
        // kernel; where this process itself reads the lost bytes, it gets SIGBUS and ends.
        let map = unsafe { Mmap::map(&file) }?;
        let (address, len) = (map.as_ptr().addr(), map.len());
        let file = Arc::new(file);
        let mut known = self.by_address.write();
        let known = known.as_mut().unwrap_or_else(|broken| broken.get_mut());
        known.insert(address, MappedRange { len, file });
        Ok(Bytes::from_owner(KnownMapping {
            map,
            files: self.clone(),
        }))
    }

    /// The file that these bytes are mapped from; none for any other memory.
    pub(crate) fn part(&self, bytes: &[u8]) -> Option<FilePart> {
        let address = bytes.as_ptr().addr();
        let known = self
            .by_address
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let (start, range) = known.range(..=address).next_back()?;
        let offset = address - start;
        let end = offset.checked_add(bytes.len())?;
        (end <= range.len).then(|| FilePart {
            file: Arc::clone(&range.file),
            offset: offset as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn bytes_of_a_mapping_are_found_in_their_file_until_it_ends() {
        let files = MappedFiles::default();
        let mut made = tempfile::tempfile().unwrap();
        made.write_all(&[7; 10_000]).unwrap();
        let bytes = files.map(made).unwrap();
        let part = files.part(&bytes[4_000..6_000]).unwrap();
        assert_eq!(part.offset, 4_000);
        assert_eq!(part.file.metadata().unwrap().len(), 10_000);
        assert!(files.part(&[0; 16]).is_none());
        let slice = bytes.slice(9_000..);
        drop(bytes);
        assert_eq!(files.part(&slice).unwrap().offset, 9_000);
        drop(slice);
        assert!(files.by_address.read().unwrap().is_empty());
    }
}
