//! Mirrors: a store that follows the histories of another one.
//!
//! Everything comes from a [`MirrorOrigin`]: a server over HTTP, or a
//! directory (an unpacked export).
//! Nothing of it is trusted: records are verified with the trusted keys, objects against their
//! names. The objects of a revision are durable before its head is created, so the mirror is a
//! valid store at every moment. A transfer continues where an earlier one stopped.

mod archive;
mod delta;
mod directory;
mod follow;
mod http;
mod merged;
mod object;
mod pace;
mod packs;
mod parts;
mod rings;
mod update;

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;
use wire::manifest::{ProfileName, RecordError};
use wire::paths::ObjectPath;
use wire::trust::TrustError;

use crate::history::HistoryError;
use crate::store::{Key, Store, StoreError};
use crate::update_pack::UpdateError;

pub(crate) use archive::{ExportedPart, export, unpack};
pub(crate) use directory::DirectoryOrigin;
pub(crate) use follow::Mirror;
pub(crate) use http::Http;
pub(crate) use pace::{DayWindow, Pace, parse_rate};

/// The reason why a mirror stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MirrorError {
    /// The origin cannot be read.
    #[error("{origin}: {what}")]
    Origin {
        /// Name of the origin.
        origin: String,
        /// The fault.
        what: String,
    },
    /// The origin lacks an object that a head names.
    #[error(
        "{origin} has no {path}, which {by} needs: `bakery verify --all` there lists what is missing"
    )]
    Missing {
        /// Name of the origin.
        origin: String,
        /// The object.
        path: String,
        /// The revision.
        by: String,
    },
    /// The bytes are not those that the name promises.
    #[error("{origin} sent a damaged {path}: {what}")]
    Damaged {
        /// Name of the origin.
        origin: String,
        /// The object.
        path: String,
        /// The fault.
        what: String,
    },
    /// The history here is not the beginning of the history there.
    #[error(
        "the history {name} of this store differs from that of {origin} at revision {revision}: mirror into an empty store, or use --replace to take over the other history"
    )]
    Differs {
        /// Name of the origin.
        origin: String,
        /// The history.
        name: String,
        /// The first revision that differs.
        revision: u64,
    },
    /// A record is not valid.
    #[error("{path}: {source}")]
    Trust {
        /// The record.
        path: String,
        /// The fault.
        source: TrustError,
    },
    /// The store of the mirror fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A history of the mirror cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// An update pack cannot be used.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// A record is malformed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A file of the mirror.
    #[error("{}: {source}", place.display())]
    File {
        /// The file.
        place: PathBuf,
        /// The fault.
        source: io::Error,
    },
}

/// `Result` with a [`MirrorError`].
pub(crate) type Result<T> = std::result::Result<T, MirrorError>;

fn file_error(place: &std::path::Path) -> impl FnOnce(io::Error) -> MirrorError {
    let place = place.to_owned();
    move |source| MirrorError::File { place, source }
}

/// A place with the objects of a store.
pub(crate) trait MirrorOrigin {
    /// Its name, for messages.
    fn name(&self) -> String;

    /// Its histories; `None` if it cannot list them.
    ///
    /// # Errors
    /// It cannot be read.
    fn profiles(&mut self) -> Result<Option<Vec<ProfileName>>>;

    /// A small object; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or the object is longer than `len_max`.
    fn read(&mut self, path: &ObjectPath, len_max: usize) -> Result<Option<Vec<u8>>>;

    /// Gives the bytes of an object in `range` to `sink`, in order; false if there is no such
    /// object.
    ///
    /// # Errors
    /// It cannot be read, the object is shorter, or `sink` fails.
    fn range(
        &mut self,
        path: &ObjectPath,
        range: Range<u64>,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<bool>;

    /// True if a look for an object costs nothing.
    fn is_local(&self) -> bool {
        false
    }

    /// The length of an object; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    fn len(&mut self, path: &ObjectPath) -> Result<Option<u64>>;
}

/// The choices of a mirror.
#[derive(Debug, Clone, Default)]
pub(crate) struct MirrorOptions {
    /// The histories to follow; none: all.
    pub names: Vec<ProfileName>,
    /// Take over histories that differ.
    pub replace: bool,
    /// Number of revisions before the newest whose update packs are copied.
    pub updates: usize,
}

/// The result of one round.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Mirrored {
    /// New revisions.
    pub revisions: u64,
    /// New ring records.
    pub ring_records: u64,
    /// New objects.
    pub objects: u64,
    /// Length of the new objects, bytes.
    pub bytes: u64,
    /// Bytes received from the origin.
    pub received: u64,
    /// Length of the chunks that update packs made, bytes.
    pub made_by_updates: u64,
}

/// The key of an object.
fn key_of(path: &ObjectPath) -> Key {
    Key::from(path.clone())
}

/// The directory for files on their way into the store.
///
/// # Errors
/// The store is not a directory.
fn parts_directory(store: &Store) -> Result<PathBuf> {
    let root = store.root().ok_or_else(|| {
        StoreError::Location(format!(
            "{}: a mirror is a directory; copy it to a bucket with `bakery store copy`",
            store.location()
        ))
    })?;
    let place = root.join("staging").join("mirror");
    crate::store::ownership::create_dir_all(&place).map_err(file_error(&place))?;
    Ok(place)
}
