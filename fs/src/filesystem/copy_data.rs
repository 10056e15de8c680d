//! The second half of a copy-up: the data. Writing the copy changes what must stay (the modification time) and removes
//! what must not go (the capabilities). Both are remembered beside the node, answered and changed there, and put
//! back when the copy is complete.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use layerfmt::Ino;
use rustix::fs::{Timespec, Timestamps, XattrFlags};

use super::data::{COPY_LEN, open_data, write_all};
use super::reply::{NodeId, REGULAR};
use super::{LayerFs, lock};
use crate::sys::object::At;
use crate::sys::{Errno, Result};

/// The attribute a write removes.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// What a file shall have when its data is copied.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The modification time.
    pub mtime: Timespec,
    /// The value of `security.capability`.
    pub capability: Option<Vec<u8>>,
}

impl Kept {
    fn of(file: &Arc<OwnedFd>) -> Result<Kept> {
        let stat = rustix::fs::fstat(file)?;
        Ok(Kept {
            mtime: mtime_of(&stat),
            capability: At::Open(Arc::clone(file)).xattr(CAPABILITY).ok(),
        })
    }

    fn put_back(&self, file: &Arc<OwnedFd>) -> Result<()> {
        if let Some(value) = &self.capability {
            rustix::fs::fsetxattr(file, CAPABILITY, value, XattrFlags::empty())?;
        }
        let last_access = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        };
        rustix::fs::futimens(
            file,
            &Timestamps {
                last_access,
                last_modification: self.mtime,
            },
        )
    }
}

/// The modification time in `stat`.
pub(super) fn mtime_of(stat: &rustix::fs::Stat) -> Timespec {
    Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}

impl LayerFs {
    /// Move the data of `id` to the upper, up to `limit` bytes of it. Its data lock is held.
    pub(super) fn take_data(&self, id: NodeId, limit: u64) -> Result<Arc<OwnedFd>> {
        if let Some(file) = self.open_file(id) {
            return Ok(file);
        }
        let known = self.read_tree().get(id).is_some_and(|node| node.in_upper);
        if !known {
            self.copy_up(&mut self.write_tree(), id)?;
        }
        let (file, row) = {
            let tree = self.read_tree();
            let node = tree.get(id).ok_or(Errno::STALE)?;
            if node.kind != REGULAR {
                return Err(Errno::INVAL);
            }
            let file = Arc::new(open_data(&self.at(&tree, id, node)?)?);
            match node.row {
                None => self.keep_file(id, &file),
                Some(_) => {
                    let mut kept = lock(&node.kept);
                    *kept = Some(Box::new(Kept::of(&file)?));
                }
            }
            (file, node.row)
        };
        let Some(row) = row else { return Ok(file) };
        let copied = self.fill(&file, row, limit);
        // Nobody changes attributes or asks after them from here on.
        let mut tree = self.write_tree();
        let node = tree.get_mut(id).ok_or(Errno::STALE)?;
        if let Some(kept) = lock(&node.kept).take() {
            kept.put_back(&file)?;
        }
        copied?;
        self.unmark(&file)?;
        node.row = None;
        self.keep_file(id, &file);
        Ok(file)
    }

    /// Copy the data of row `row` into the upper's `file`. A failure leaves the file reading from the lower.
    fn fill(&self, file: &Arc<OwnedFd>, row: Ino, limit: u64) -> Result<()> {
        let stat = rustix::fs::fstat(file)?;
        let inode = self.lower.index.inode(row).ok_or(Errno::IO)?;
        let own_size = u64::try_from(stat.st_size).unwrap_or(0);
        let end = own_size.min(inode.size).min(limit);
        let mut copied = self.copy_data(file, row, end);
        if copied.is_ok() && !self.settings.volatile && end > 0 {
            copied = rustix::fs::fdatasync(file);
        }
        if copied.is_err() {
            // Give back what a full disk was filled with: the file still reads from the lower.
            let _ = rustix::fs::ftruncate(file, 0);
            let _ = rustix::fs::ftruncate(file, own_size);
        }
        if copied.is_ok() && limit < own_size {
            // Before the mark goes: what lies behind was not copied and must never be seen.
            copied = rustix::fs::ftruncate(file, limit);
        }
        copied
    }

    /// The data of `file` is in the upper.
    fn unmark(&self, file: &OwnedFd) -> Result<()> {
        let marks = &self.upper()?.marks;
        for mark in [&marks.metacopy, &marks.redirect] {
            match rustix::fs::fremovexattr(file, &mark[..]) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Copy the data of row `row` up to `end`; holes stay holes.
    fn copy_data(&self, file: &OwnedFd, row: Ino, end: u64) -> Result<()> {
        let (mut offset, mut bytes) = (0, Vec::new());
        while offset < end {
            offset = match self.lower.seek(row, offset, end, false) {
                Ok(data) => data,
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(errno),
            };
            let hole = self.lower.seek(row, offset, end, true)?;
            let len = usize::try_from(hole.saturating_sub(offset))
                .unwrap_or(COPY_LEN)
                .min(COPY_LEN);
            self.lower.read(row, offset, len, end, &mut bytes)?;
            if bytes.is_empty() {
                break;
            }
            write_all(file, &bytes, offset)?;
            offset = offset.saturating_add(bytes.len() as u64);
        }
        Ok(())
    }
}
