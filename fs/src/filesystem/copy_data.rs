//! The second half of a copy-up: the data. Writing the copy changes attributes that must stay (the
//! modification time) and removes others that must not disappear (the capabilities). Both are
//! recorded in the node, returned and changed there, and restored when the copy is complete. During
//! the copy a note in the upper records them too, so that the next mount can restore them after a
//! crash.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use layerfmt::Ino;
use rustix::fs::{FallocateFlags, Stat, Timespec, Timestamps, XattrFlags};

use super::data::{Bytes, COPY_LEN, open_data, write_all};
use super::far::{Far, Need, Stop};
use super::reply::{NodeId, REGULAR};
use super::spool::copy_spooled;
use super::tree::Node;
use super::{LayerFs, lock};
use crate::error::Result;
use crate::sys::object::At;
use crate::sys::{self, Errno};
use crate::upper::marks::Marks;

/// The attribute that a write removes.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// Version of the note's form.
const NOTE_VERSION: u8 = 1;

/// Attributes of a file to restore after its data is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The modification time.
    pub mtime: Timespec,
    /// The value of `security.capability`.
    pub capability: Option<Vec<u8>>,
}

impl Kept {
    fn of(file: &Arc<OwnedFd>, stat: &Stat) -> Kept {
        Kept {
            mtime: mtime_of(stat),
            capability: At::Open(Arc::clone(file)).xattr(CAPABILITY).ok(),
        }
    }

    /// Parses a note; `None` if it is invalid.
    pub(super) fn from_note(note: &[u8]) -> Option<Kept> {
        let (&version, rest) = note.split_first()?;
        let (seconds, rest) = rest.split_first_chunk::<8>()?;
        let (nanoseconds, rest) = rest.split_first_chunk::<4>()?;
        let (&capable, capability) = rest.split_first()?;
        let nanoseconds = u32::from_le_bytes(*nanoseconds);
        (version == NOTE_VERSION && nanoseconds < 1_000_000_000).then(|| Kept {
            mtime: Timespec {
                tv_sec: i64::from_le_bytes(*seconds),
                tv_nsec: nanoseconds.into(),
            },
            capability: (capable != 0).then(|| capability.to_vec()),
        })
    }

    /// Version, seconds and nanoseconds of the modification time, a flag for capabilities, and
    /// these.
    fn note(&self) -> Vec<u8> {
        let mut note = vec![NOTE_VERSION];
        note.extend_from_slice(&self.mtime.tv_sec.to_le_bytes());
        let nanoseconds = u32::try_from(self.mtime.tv_nsec).unwrap_or(0);
        note.extend_from_slice(&nanoseconds.to_le_bytes());
        note.push(u8::from(self.capability.is_some()));
        note.extend_from_slice(self.capability.as_deref().unwrap_or_default());
        note
    }

    /// Writes the note to the file.
    pub(super) fn write_note(&self, marks: &Marks, at: &At<'_>) -> Result<()> {
        Ok(at.set_xattr(&marks.copying, &self.note(), XattrFlags::empty())?)
    }

    /// Restores the attributes of the file, then removes the note.
    pub(super) fn put_back(&self, marks: &Marks, at: &At<'_>) -> Result<()> {
        if let Some(value) = &self.capability {
            at.set_xattr(CAPABILITY, value, XattrFlags::empty())?;
        }
        at.set_times(&Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_OMIT,
            },
            last_modification: self.mtime,
        })?;
        Ok(gone(at.remove_xattr(&marks.copying))?)
    }
}

/// The copy of `node`'s data is complete: restores the attributes. After a failure the note stays.
pub(super) fn settle(node: &mut Node, marks: &Marks, at: &At<'_>) -> Result<()> {
    let mut kept = lock(&node.kept);
    if let Some(shall) = kept.as_ref() {
        shall.put_back(marks, at)?;
        *kept = None;
    }
    Ok(())
}

/// Removing an absent attribute succeeds.
pub(super) fn gone(removed: sys::Result<()>) -> sys::Result<()> {
    match removed {
        Err(Errno::NODATA) => Ok(()),
        other => other,
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
    /// The remote data that a copy-up of `id`, up to `limit` bytes, needs.
    fn far(&self, id: NodeId, limit: u64) -> Option<Need> {
        let lower = self.lower();
        if limit == 0 || !lower.chunks.is_slow() {
            return None;
        }
        let Ok(Bytes::Lower { row, size }) = self.bytes(id) else {
            return None;
        };
        let inode = lower.index.inode(row).filter(|inode| inode.is_file())?;
        let end = size.min(inode.size).min(limit);
        let serial = lower.serial;
        let need = Need {
            id,
            row,
            end,
            serial,
        };
        let len = usize::try_from(end).unwrap_or(usize::MAX);
        let near = self.is_local(&need, 0, len) || self.spools.find(row, end, serial).is_some();
        (!near).then_some(need)
    }

    /// Copies the data of `id` to the upper, up to `limit` bytes. The caller holds its data lock.
    /// Nothing is changed if some data is remote.
    pub(super) fn take_data(
        &self,
        id: NodeId,
        limit: u64,
    ) -> std::result::Result<Arc<OwnedFd>, Stop> {
        if let Some(file) = self.open_file(id) {
            return Ok(file);
        }
        if let Some(need) = self.far(id, limit) {
            return Err(Stop::Far(Far::Data(need)));
        }
        let known = self.read_tree().get(id).is_some_and(|node| node.in_upper);
        if !known {
            self.copy_up(&mut self.write_tree(), id)?;
        }
        let marks = &self.upper()?.marks;
        let (file, row) = {
            let tree = self.read_tree();
            let node = tree.get(id).ok_or(Errno::STALE)?;
            if node.kind != REGULAR {
                return Err(Errno::INVAL.into());
            }
            let at = self.at(&tree, id, node)?;
            let file = Arc::new(self.with_descriptors(|| open_data(&at))?);
            match node.row {
                None => self.keep_unprotected(node, id, &file),
                Some(_) => self.note(node, &file, limit)?,
            }
            (file, node.row)
        };
        let Some(row) = row else { return Ok(file) };
        let copied = self.fill(&file, row, limit);
        // From here on no attributes are changed or read.
        let mut tree = self.write_tree();
        let node = tree.get_mut(id).ok_or(Errno::STALE)?;
        settle(node, marks, &At::File(&file))?;
        if let Err(stop) = copied {
            drop(tree);
            // The data was reported as local but was not: all of it is fetched.
            let lower = self.lower();
            return Err(match stop {
                Stop::Far(_) => Stop::Far(Far::Data(Need {
                    id,
                    row,
                    end: lower
                        .index
                        .inode(row)
                        .map_or(0, |inode| inode.size.min(limit)),
                    serial: lower.serial,
                })),
                failed => failed,
            });
        }
        for mark in [&marks.metacopy, &marks.redirect] {
            gone(rustix::fs::fremovexattr(&file, &mark[..]))?;
        }
        node.row = None;
        self.keep_unprotected(node, id, &file);
        Ok(file)
    }

    /// Records the attributes of `file` to restore after its data is copied, up to `limit` bytes.
    fn note(&self, node: &Node, file: &Arc<OwnedFd>, limit: u64) -> Result<()> {
        let mut kept = lock(&node.kept);
        if kept.is_some() {
            return Ok(());
        }
        let stat = rustix::fs::fstat(file)?;
        let now = Kept::of(file, &stat);
        // A file that was opened for writing may never be written.
        self.keep_change_time(node, &At::File(file), &stat, limit == u64::MAX)?;
        if limit > 0 {
            now.write_note(&self.upper()?.marks, &At::File(file))?;
        }
        *kept = Some(Box::new(now));
        Ok(())
    }

    /// Copies the data of row `row` into the upper's `file`. After a failure the file still reads from the
    /// lower.
    fn fill(&self, file: &Arc<OwnedFd>, row: Ino, limit: u64) -> std::result::Result<(), Stop> {
        let stat = rustix::fs::fstat(file)?;
        let lower = self.lower();
        let inode = lower.index.inode(row).ok_or(Errno::IO)?;
        let own_size = u64::try_from(stat.st_size).unwrap_or(0);
        let end = inode.size.min(limit);
        let mut copied = match self.spools.find(row, end, lower.serial) {
            Some(spool) => copy_spooled(&spool, file, end).map_err(Stop::from),
            None => self.copy_data(file, row, 0, end),
        };
        if copied.is_ok() && !self.settings.volatile && end > 0 {
            copied = rustix::fs::fdatasync(file).map_err(Stop::from);
        }
        if copied.is_err() {
            // Frees the space of an incomplete copy on a full disk: the file still reads from the
            // lower.
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = rustix::fs::fallocate(file, hole, 0, own_size.max(end));
        }
        if copied.is_ok() && end != own_size {
            // Before the mark is removed: bytes beyond were not copied and must never be visible.
            copied = rustix::fs::ftruncate(file, end).map_err(Stop::from);
        }
        copied
    }

    /// Copies the data of row `row` from `offset` up to `end`; holes stay holes.
    pub(super) fn copy_data(
        &self,
        file: &OwnedFd,
        row: Ino,
        mut offset: u64,
        end: u64,
    ) -> std::result::Result<(), Stop> {
        let mut bytes = Vec::new();
        while offset < end {
            offset = match self.lower().seek(row, offset, end, false) {
                Ok(data) => data,
                Err(error) if error == Errno::NXIO => break,
                Err(error) => return Err(error.into()),
            };
            let hole = self.lower().seek(row, offset, end, true)?;
            let len = usize::try_from(hole.saturating_sub(offset))
                .unwrap_or(COPY_LEN)
                .min(COPY_LEN);
            self.lower().read(row, offset, len, end, &mut bytes)?;
            if bytes.is_empty() {
                break;
            }
            write_all(file, &bytes, offset)?;
            offset = offset.saturating_add(bytes.len() as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_round_trip_and_others_are_none() {
        for capability in [None, Some(vec![]), Some(vec![1, 0, 2])] {
            let kept = Kept {
                mtime: Timespec {
                    tv_sec: -7,
                    tv_nsec: 999_999_999,
                },
                capability,
            };
            let note = kept.note();
            assert_eq!(Kept::from_note(&note), Some(kept));
            assert_eq!(Kept::from_note(&note[..13]), None);
        }
        assert_eq!(Kept::from_note(b""), None);
        assert_eq!(Kept::from_note(&[9; 14]), None);
        let timeless = [&[1; 9][..], &1_000_000_000_u32.to_le_bytes(), &[0]].concat();
        assert_eq!(Kept::from_note(&timeless), None);
    }
}
