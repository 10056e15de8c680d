//! The data of a file to be copied up, collected in the work directory while it is fetched: the
//! upper itself changes when all of it is local.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use layerfmt::Ino;
use rustix::fs::SeekFrom;

use super::copy_up::create_file;
use super::data::{COPY_LEN, read_upper, write_all};
use super::far::{Need, Stop};
use super::{LayerFs, lock};
use crate::error::Result;
use crate::sys::Errno;

/// An unnamed file in the work directory.
#[derive(Debug)]
pub struct Spool {
    file: Arc<OwnedFd>,
}

/// The spools that are complete.
#[derive(Debug, Default)]
pub(super) struct Spools {
    offered: Mutex<Vec<Offered>>,
}

#[derive(Debug)]
struct Offered {
    row: Ino,
    end: u64,
    serial: u32,
    file: Arc<OwnedFd>,
}

impl Spools {
    /// One with at least the first `end` bytes of row `row` of this revision.
    pub(super) fn find(&self, row: Ino, end: u64, serial: u32) -> Option<Arc<OwnedFd>> {
        let offered = lock(&self.offered);
        let found = offered
            .iter()
            .find(|one| (one.row, one.serial) == (row, serial) && one.end >= end);
        found.map(|one| Arc::clone(&one.file))
    }
}

/// While this exists, copy-ups use the data of the spool.
#[derive(Debug)]
pub struct Offer {
    spools: Arc<Spools>,
    file: Arc<OwnedFd>,
}

impl Drop for Offer {
    fn drop(&mut self) {
        lock(&self.spools.offered).retain(|one| !Arc::ptr_eq(&one.file, &self.file));
    }
}

impl LayerFs {
    /// An empty spool.
    ///
    /// # Errors
    /// The error of the upper's file system.
    pub fn spool(&self) -> Result<Spool> {
        let work = &self.upper()?.work;
        let name = work.name();
        let file = create_file(work.directory(), &name, 0o600)?;
        work.remove(&name)?;
        Ok(Spool {
            file: Arc::new(file),
        })
    }

    /// Copies `len` bytes of `need` from `offset` on into `spool`.
    ///
    /// # Errors
    /// Some data is remote, or the error of the upper's file system.
    pub(crate) fn fill_spool(
        &self,
        spool: &Spool,
        need: &Need,
        offset: u64,
        len: u64,
    ) -> std::result::Result<(), Stop> {
        let end = offset.saturating_add(len).min(need.end);
        self.copy_data(&spool.file, need.row, offset, end)
    }

    /// `spool` has all of `need`.
    pub fn offer(&self, spool: Spool, need: &Need) -> Offer {
        lock(&self.spools.offered).push(Offered {
            row: need.row,
            end: need.end,
            serial: need.serial,
            file: Arc::clone(&spool.file),
        });
        Offer {
            spools: Arc::clone(&self.spools),
            file: spool.file,
        }
    }
}

/// Copies the first `end` bytes of `spool` into `file`; holes stay holes.
pub(super) fn copy_spooled(spool: &OwnedFd, file: &OwnedFd, end: u64) -> Result<()> {
    let (mut offset, mut bytes) = (0, Vec::new());
    while offset < end {
        offset = match rustix::fs::seek(spool, SeekFrom::Data(offset)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let hole = rustix::fs::seek(spool, SeekFrom::Hole(offset))?.min(end);
        while offset < hole {
            let len = usize::try_from(hole - offset).unwrap_or(usize::MAX);
            let (mut from, mut to) = (offset, offset);
            let copied =
                rustix::fs::copy_file_range(spool, Some(&mut from), file, Some(&mut to), len);
            let count = match copied {
                Ok(count) if count > 0 => count,
                // A file system that cannot.
                Ok(_) | Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOSYS) => {
                    read_upper(spool, offset, len.min(COPY_LEN), &mut bytes)?;
                    if bytes.is_empty() {
                        return Err(Errno::IO.into());
                    }
                    write_all(file, &bytes, offset)?;
                    bytes.len()
                }
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            offset = offset.saturating_add(count as u64);
        }
    }
    Ok(())
}
