//! The bytes of files. A file's data is in the lower until the first write; then all of it is in
//! the upper, atomically for others: the metacopy mark is removed when the copy is complete.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use layerfmt::Ino;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};

use super::LayerFs;
use super::far::Stop;
use super::reply::{Caller, NodeId, REGULAR};
use crate::error::Result;
use crate::lower::Lower;
use crate::lower::chunks::Early;
use crate::sys::object::At;
use crate::sys::{self, Errno};

/// Bytes copied in one step.
pub(super) const COPY_LEN: usize = 1 << 20;

/// The current location of a file's bytes.
pub(super) enum Bytes {
    Upper(Arc<OwnedFd>),
    Lower { row: Ino, size: u64 },
}

impl LayerFs {
    /// Reads up to `len` bytes of `id` from `offset` into `out` (replaced); fewer only at the end.
    ///
    /// # Errors
    /// Some data is remote; EIO for a damaged chunk, or the error of the upper's file system.
    pub fn read(
        &self,
        id: NodeId,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> std::result::Result<(), Stop> {
        self.read_early(id, offset, len, out, None)
    }

    /// Reads like [`LayerFs::read`]; may give all bytes to `early` first, and return later.
    ///
    /// # Errors
    /// Those of [`LayerFs::read`]. `early` may have been called before one.
    pub(crate) fn read_early(
        &self,
        id: NodeId,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
        early: Option<Early<'_>>,
    ) -> std::result::Result<(), Stop> {
        let lower = self.lower();
        match self.bytes_in(&lower, id)? {
            Bytes::Lower { row, size } => Ok(lower.read_early(row, offset, len, size, out, early)?),
            Bytes::Upper(file) => Ok(read_upper(&file, offset, len, out)?),
        }
    }

    /// Reads like [`LayerFs::read`], unless data would have to be fetched or decoded: then false.
    ///
    /// # Errors
    /// The errors of the upper's file system.
    pub(crate) fn read_if_decoded(
        &self,
        id: NodeId,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let lower = self.lower();
        match self.bytes_in(&lower, id)? {
            Bytes::Lower { row, size } => Ok(lower.read_if_decoded(row, offset, len, size, out)),
            Bytes::Upper(file) => read_upper(&file, offset, len, out).map(|()| true),
        }
    }

    pub(super) fn bytes(&self, id: NodeId) -> Result<Bytes> {
        self.bytes_in(&self.lower(), id)
    }

    fn bytes_in(&self, lower: &Lower, id: NodeId) -> Result<Bytes> {
        let lower = |row: Ino| {
            let inode = lower.index.inode(row).ok_or(Errno::STALE)?;
            Ok(Bytes::Lower {
                row,
                size: inode.size,
            })
        };
        if self.upper.is_none() {
            return lower(self.numbers.row_of(id).ok_or(Errno::STALE)?);
        }
        if let Some(file) = self.open_file(id) {
            return Ok(Bytes::Upper(file));
        }
        let tree = self.read_tree();
        let Some(node) = tree.get(id).filter(|node| node.in_upper) else {
            return lower(self.numbers.row_of(id).ok_or(Errno::STALE)?);
        };
        if let Some(row) = node.row {
            return lower(row);
        }
        let at = self.at(&tree, id, node)?;
        if node.kind != REGULAR {
            return Err(Errno::INVAL.into());
        }
        let file = Arc::new(self.with_descriptors(|| open_data(&at))?);
        self.keep_unprotected(node, id, &file);
        Ok(Bytes::Upper(file))
    }

    /// Writes `data` at `offset`; for `unprivileged` callers clears set-user-ID and set-group-ID.
    ///
    /// # Errors
    /// Data to be copied up is remote; ENOSPC and other errors of the upper's file system: no other
    /// data is affected.
    pub fn write(
        &self,
        id: NodeId,
        offset: u64,
        data: &[u8],
        unprivileged: Option<Caller>,
    ) -> std::result::Result<usize, Stop> {
        let file = match self.open_file(id) {
            Some(file) => file,
            None => self.writable_at(id, offset)?,
        };
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            match self.with_room(|| rustix::io::pwrite(&file, rest, at)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) if done == 0 => return Err(errno.into()),
                Err(_) => break,
            }
        }
        if let Some(caller) = unprivileged {
            self.drop_privileges(id, caller)?;
        }
        Ok(done)
    }

    /// The open file of `id`, with all its data in the upper.
    ///
    /// # Errors
    /// That data is remote, or the error of the upper's file system.
    pub fn writable(&self, id: NodeId) -> std::result::Result<Arc<OwnedFd>, Stop> {
        self.upper()?;
        if let Some(file) = self.open_file(id) {
            return Ok(file);
        }
        self.only_grows(id)?;
        let _data = self.data_lock(id)?;
        self.with_descriptors(|| self.take_data(id, u64::MAX))
    }

    /// Prepares a write like [`LayerFs::writable`], at `offset`.
    fn writable_at(&self, id: NodeId, offset: u64) -> std::result::Result<Arc<OwnedFd>, Stop> {
        let file = self.writable(id)?;
        if self.only_grows(id)? {
            let end = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
            if offset != end {
                return Err(Errno::PERM.into());
            }
        }
        Ok(file)
    }

    /// The open file of `id` if it is a regular file with its data in the upper.
    ///
    /// # Errors
    /// The error of the upper's file system.
    pub(crate) fn upper_data(&self, id: NodeId) -> Result<Option<Arc<OwnedFd>>> {
        if !self.is_writable() {
            return Ok(None);
        }
        match self.bytes(id)? {
            Bytes::Upper(file) => Ok(Some(file)),
            Bytes::Lower { .. } => Ok(None),
        }
    }

    /// Changes the size of a file, whose data lock the caller holds.
    pub(super) fn truncate(&self, id: NodeId, size: u64) -> std::result::Result<(), Stop> {
        let file = self.take_data(id, size)?;
        Ok(rustix::fs::ftruncate(&file, size)?)
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// Data to be copied up is remote; EOPNOTSUPP if the upper's file system does not support it,
    /// ENOSPC.
    pub fn fallocate(
        &self,
        id: NodeId,
        offset: u64,
        len: u64,
        mode: u32,
        unprivileged: Option<Caller>,
    ) -> std::result::Result<(), Stop> {
        let file = self.writable(id)?;
        let within = FallocateFlags::KEEP_SIZE.bits();
        if self.only_grows(id)? && mode & !within != 0 {
            return Err(Errno::PERM.into());
        }
        rustix::fs::fallocate(&file, FallocateFlags::from_bits_retain(mode), offset, len)?;
        if let Some(caller) = unprivileged {
            self.drop_privileges(id, caller)?;
        }
        Ok(())
    }

    /// lseek(2) for SEEK_DATA and SEEK_HOLE.
    ///
    /// # Errors
    /// ENXIO past the end or if there is no more data.
    pub fn seek(&self, id: NodeId, offset: u64, hole: bool) -> Result<u64> {
        match self.bytes(id)? {
            Bytes::Lower { row, size } => self.lower().seek(row, offset, size, hole),
            Bytes::Upper(file) => {
                let to = if hole {
                    SeekFrom::Hole(offset)
                } else {
                    SeekFrom::Data(offset)
                };
                Ok(rustix::fs::seek(&file, to)?)
            }
        }
    }

    /// copy_file_range(2); may copy less.
    ///
    /// # Errors
    /// The errors of read and write.
    pub fn copy_range(
        &self,
        from: (NodeId, u64),
        to: (NodeId, u64),
        len: u64,
        unprivileged: Option<Caller>,
    ) -> std::result::Result<usize, Stop> {
        self.upper()?;
        // The source is copied up before the target changes.
        let mut bytes = Vec::new();
        if let Bytes::Lower { row, size } = self.bytes(from.0)? {
            let len = usize::try_from(len).unwrap_or(COPY_LEN).min(COPY_LEN);
            self.lower().read(row, from.1, len, size, &mut bytes)?;
        }
        let target = self.writable_at(to.0, to.1)?;
        if let Some(caller) = unprivileged {
            self.drop_privileges(to.0, caller)?;
        }
        if let Bytes::Upper(source) = self.bytes(from.0)? {
            let (mut at, mut put) = (from.1, to.1);
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let copied =
                rustix::fs::copy_file_range(&source, Some(&mut at), &target, Some(&mut put), len);
            return Ok(copied?);
        }
        write_all(&target, &bytes, to.1)?;
        Ok(bytes.len())
    }

    /// fsync(2): written data is on disk when this returns.
    ///
    /// # Errors
    /// The error of the upper's file system.
    pub fn fsync(&self, id: NodeId, data_only: bool) -> Result<()> {
        if self.upper.is_none() {
            return Ok(());
        }
        let file = match self.open_file(id) {
            Some(file) => file,
            None => {
                let tree = self.read_tree();
                let Some(node) = tree.get(id).filter(|node| node.in_upper) else {
                    return Ok(());
                };
                if node.kind != REGULAR && !node.is_dir() {
                    return Ok(());
                }
                let at = self.at(&tree, id, node)?;
                let open = || match node.is_dir() {
                    true => at.open(OFlags::RDONLY | OFlags::DIRECTORY),
                    false => open_data(&at),
                };
                Arc::new(self.with_descriptors(open)?)
            }
        };
        match data_only {
            true => rustix::fs::fdatasync(&file)?,
            false => rustix::fs::fsync(&file)?,
        }
        Ok(())
    }
}

/// Opens a regular file of the upper; for reading only if writing is refused.
pub(super) fn open_data(at: &At<'_>) -> sys::Result<OwnedFd> {
    match at.open(OFlags::RDWR | OFlags::NONBLOCK) {
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY) => {
            at.open(OFlags::RDONLY | OFlags::NONBLOCK)
        }
        other => other,
    }
}

pub(super) fn read_upper(file: &OwnedFd, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    out.reserve(len);
    while out.len() < len {
        let at = offset.saturating_add(out.len() as u64);
        match rustix::io::pread(file, rustix::buffer::spare_capacity(out), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    out.truncate(len);
    Ok(())
}

pub(super) fn write_all(file: &OwnedFd, bytes: &[u8], offset: u64) -> Result<()> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pwrite(file, rest, offset.saturating_add(done as u64)) {
            Ok(0) => return Err(Errno::IO.into()),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
