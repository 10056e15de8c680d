//! An incomplete upload: collected under `incoming/.parts/`, then queued in one step or not at all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use layerfmt::writeback::Writeback;
use ulid::Ulid;

use super::BODY;
use super::files::{self, Lock};
use super::records::{JobRequest, Origin};
use super::spool::{Job, Spool, SpoolState};

/// The reason why an upload cannot be accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArrivalError {
    /// More than the server accepts.
    #[error(
        "the upload is longer than the {0} bytes that this server accepts; exclude files, or raise --body-max there"
    )]
    TooLong(u64),
    /// The disk is full.
    #[error("the server's spool {0} is full; nothing was queued: make room there and push again")]
    Full(PathBuf),
    /// The spool cannot be written.
    #[error("cannot write the server's spool {path}: {source}")]
    Spool {
        /// The affected file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// One incomplete upload. Dropped before [`Arrival::queue`], it leaves no files.
#[derive(Debug)]
pub(crate) struct Arrival {
    spool: Spool,
    path: PathBuf,
    body: File,
    /// Set when the upload is complete.
    writeback: Option<Writeback>,
    len: u64,
    len_max: u64,
    /// Prevents a sweeper from deleting this as a leftover.
    _lock: Lock,
    queued: bool,
}

impl Arrival {
    /// Begins to collect an upload of at most `len_max` bytes.
    ///
    /// # Errors
    /// The spool cannot be written.
    pub(crate) fn begin(spool: &Spool, len_max: u64) -> Result<Self, ArrivalError> {
        let mut tries = 3;
        loop {
            let path = spool.parts().join(Ulid::generate().to_string());
            tries -= 1;
            match Self::make(spool, &path, len_max) {
                // A sweeper may delete the new directory before we hold its lock.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => {}
                made => return made.map_err(|source| failed(&path, source)),
            }
        }
    }

    fn make(spool: &Spool, path: &Path, len_max: u64) -> io::Result<Self> {
        fs::create_dir(path)?;
        let lock = Lock::take(&path.join("lock"))?;
        let body = File::create_new(path.join(BODY))?;
        let writeback = Some(Writeback::of(&body)?);
        Ok(Self {
            spool: spool.clone(),
            path: path.to_owned(),
            body,
            writeback,
            len: 0,
            len_max,
            _lock: lock,
            queued: false,
        })
    }

    /// Adds bytes to the upload.
    ///
    /// # Errors
    /// Too many bytes, or the spool cannot be written.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ArrivalError> {
        self.len = self.len.saturating_add(bytes.len() as u64);
        if self.len > self.len_max {
            return Err(ArrivalError::TooLong(self.len_max));
        }
        self.body
            .write_all(bytes)
            .map_err(|source| failed(&self.path, source))?;
        if let Some(writeback) = &mut self.writeback {
            writeback.wrote(bytes.len() as u64);
        }
        Ok(())
    }

    /// Moves the complete upload into the queue. When this returns, the job is durable.
    ///
    /// # Errors
    /// The spool cannot be written; nothing was queued.
    pub(crate) fn queue(mut self, request: &JobRequest) -> Result<Job, ArrivalError> {
        let job = self
            .try_queue(request)
            .map_err(|source| failed(&self.path, source))?;
        self.queued = true;
        Ok(job)
    }

    fn try_queue(&mut self, request: &JobRequest) -> io::Result<Job> {
        let earlier = self.writeback.take().map(Writeback::finish);
        self.body.sync_all()?;
        earlier.transpose()?;
        files::write_record(&self.path.join("request.json"), request)?;
        commit(&self.spool, &self.path)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if !self.queued {
            let _ = files::remove_all(&self.path);
        }
    }
}

fn failed(path: &Path, source: io::Error) -> ArrivalError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ArrivalError::Full(path.to_owned())
        }
        _ => ArrivalError::Spool {
            path: path.to_owned(),
            source,
        },
    }
}

/// The single step from an unacknowledged upload to a durable job.
fn commit(spool: &Spool, part: &Path) -> io::Result<Job> {
    files::sync_directory(part)?;
    let id = spool.next_id()?;
    let queue = spool.state(SpoolState::Queued);
    let path = queue.join(id.to_string());
    fs::rename(part, &path)?;
    files::sync_directory(&queue)?;
    Ok(Job {
        id,
        state: SpoolState::Queued,
        path,
    })
}

/// Moves a file from `incoming/` into the queue: request first, then the file, then the commit, so
/// that [`recover`] undoes or completes an interrupted move. From another file system (a mount
/// point inside `incoming/`) it is copied, then removed there; after a crash between the two it is
/// queued again, and its second job changes nothing.
pub(crate) fn take_dropped(spool: &Spool, file: &Path, request: &JobRequest) -> io::Result<Job> {
    let part = spool.parts().join(Ulid::generate().to_string());
    fs::create_dir(&part)?;
    let _lock = Lock::take(&part.join("lock"))?;
    let taken = File::open(file).and_then(|body| body.sync_all());
    let taken = taken
        .and_then(|()| files::write_record(&part.join("request.json"), request))
        .and_then(|()| match fs::rename(file, part.join(BODY)) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                move_by_copy(file, &part)
            }
            renamed => renamed,
        });
    if let Err(error) = taken {
        let _ = files::remove_all(&part);
        return Err(error);
    }
    commit(spool, &part)
}

fn move_by_copy(file: &Path, part: &Path) -> io::Result<()> {
    let partial = part.join("copy");
    fs::copy(file, &partial)?;
    File::open(&partial)?.sync_all()?;
    fs::rename(&partial, part.join(BODY))?;
    files::sync_directory(part)?;
    fs::remove_file(file)
}

/// Recovers `incoming/.parts/` after a crash: queues a dropped file that had been taken, and
/// removes an upload that was never acknowledged. Returns the number of each.
pub(crate) fn recover(spool: &Spool) -> io::Result<(usize, usize)> {
    let (mut queued, mut removed) = (0, 0);
    for entry in fs::read_dir(spool.parts())? {
        let part = entry?.path();
        // Locked: its receiver is alive and still collecting.
        let Ok(Some(_lock)) = Lock::try_take(&part.join("lock")) else {
            continue;
        };
        let request: Option<JobRequest> = files::read_record(&part.join("request.json"))
            .ok()
            .flatten();
        let dropped = request.is_some_and(|request| matches!(request.origin, Origin::Drop { .. }));
        if dropped && part.join(BODY).exists() {
            commit(spool, &part)?;
            queued += 1;
        } else {
            files::remove_all(&part)?;
            removed += 1;
        }
    }
    Ok((queued, removed))
}
