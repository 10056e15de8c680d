//! Reads the tree whose boot is predicted: by path, with links followed inside the tree.

use std::cell::RefCell;

use layerfmt::{ContentReader, DirentTarget, Index, Ino, StoredChunks};

use crate::history::find;
use crate::limits::{LINK_HOPS_MAX, PREDICT_NAMES_MAX, PREDICT_TEXT_LEN_MAX};

/// A merged index and a reader of its contents.
#[derive(Debug)]
pub(super) struct BootTree<'t> {
    index: &'t Index,
    reader: RefCell<ContentReader<'t>>,
}

impl<'t> BootTree<'t> {
    pub(super) fn new(index: &'t Index, chunks: &'t dyn StoredChunks) -> Self {
        Self {
            index,
            reader: RefCell::new(ContentReader::new(index, chunks)),
        }
    }

    /// The regular file at `path`, links followed.
    pub(super) fn file(&self, path: &str) -> Option<Ino> {
        let ino = find(self.index, path.as_bytes(), true).ok()?;
        self.index.inode(ino)?.is_file().then_some(ino)
    }

    /// True if there is a directory at `path`, links followed.
    pub(super) fn is_dir(&self, path: &str) -> bool {
        let found = find(self.index, path.as_bytes(), true);
        let inode = found.ok().and_then(|ino| self.index.inode(ino));
        inode.is_some_and(|inode| inode.is_dir())
    }

    /// True if `path` names something, links followed.
    pub(super) fn exists(&self, path: &str) -> bool {
        find(self.index, path.as_bytes(), true).is_ok()
    }

    /// The target of the symbolic link at `path` itself.
    pub(super) fn link(&self, path: &str) -> Option<String> {
        let ino = find(self.index, path.as_bytes(), false).ok()?;
        let inode = self.index.inode(ino)?;
        let is_link = inode.kind() == layerfmt::layout::inode::S_IFLNK;
        is_link
            .then(|| String::from_utf8(self.index.symlink(ino).to_vec()).ok())
            .flatten()
    }

    /// `path` with the links of its last name followed: the directory in which a program really is.
    pub(super) fn real(&self, path: &str) -> String {
        let mut path = path.to_owned();
        for _ in 0..LINK_HOPS_MAX {
            let Some(target) = self.link(&path) else {
                break;
            };
            path = match (target.starts_with('/'), path.rsplit_once('/')) {
                (false, Some((directory, _))) => format!("{directory}/{target}"),
                _ => target,
            };
        }
        path
    }

    /// The names in a directory, sorted as in the index; names that are not UTF-8 are skipped.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let Ok(dir) = find(self.index, path.as_bytes(), true) else {
            return Vec::new();
        };
        if !self.index.inode(dir).is_some_and(|inode| inode.is_dir()) {
            return Vec::new();
        }
        self.index
            .entries(dir, 0)
            .filter(|entry| entry.child != DirentTarget::Whiteout)
            .take(PREDICT_NAMES_MAX)
            .filter_map(|entry| String::from_utf8(entry.name.to_vec()).ok())
            .collect()
    }

    /// The length of a file.
    pub(super) fn len(&self, ino: Ino) -> u64 {
        self.index.inode(ino).map_or(0, |inode| inode.size)
    }

    /// True if the file has an execute bit.
    pub(super) fn is_program(&self, ino: Ino) -> bool {
        self.index
            .inode(ino)
            .is_some_and(|inode| inode.mode & 0o111 != 0)
    }

    /// `len` bytes of a file from `start`, fewer at its end. Holes are zeros.
    pub(super) fn bytes(&self, ino: Ino, start: u64, len: u64) -> Option<Vec<u8>> {
        let end = self.len(ino).min(start.checked_add(len)?);
        let mut out = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
        for extent in self.index.extents(ino, start..end) {
            let mut reader = self.reader.borrow_mut();
            let data = reader.extent(&extent).ok()?;
            let from = extent.file_offset.max(start);
            let to = (extent.file_offset + data.len() as u64).min(end);
            let inside = usize::try_from(from - extent.file_offset).ok()?;
            let count = usize::try_from(to.checked_sub(from)?).ok()?;
            let place = usize::try_from(from - start).ok()?;
            out.get_mut(place..place + count)?
                .copy_from_slice(data.get(inside..inside + count)?);
        }
        Some(out)
    }

    /// The first bytes of a file as text.
    pub(super) fn text_of(&self, ino: Ino) -> Option<String> {
        let bytes = self.bytes(ino, 0, PREDICT_TEXT_LEN_MAX)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The text of the file at `path`.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.text_of(self.file(path)?)
    }
}
