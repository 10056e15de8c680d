//! Update packs: one file with the missing parts of a newer revision, for clients of an older one.
//!
//! The new chunks are encoded against the old contents of the same path (or of the most similar
//! one), the new index against the old index. Files that are already compressed are encoded in
//! their raw form where a recipe makes exactly their compressed form again. `docs/FORMAT.md` §18 is
//! the format. The bakery makes a pack after it has published the revision; publishing never waits
//! for a pack.

mod choice;
mod compressed;
mod hot;
mod index_delta;
mod make;
mod offer;
mod regions;
mod reuse;
mod runs;
mod scripted;
mod sources;
mod units;

use wire::manifest::{ProfileName, UpdateRecord};

use crate::history::{HistoryError, Revision};
use crate::store::{Key, Store, StoreError};

pub(crate) use index_delta::{DeltaEnd, delta_record, encode as encode_delta};
pub use make::{Made, make};
pub(crate) use offer::Opened;
pub use offer::{is_wanted, missing, offers};
pub(crate) use offer::{read_record, verify_file};

pub(crate) use sources::End as OldEnd;

/// Number of revisions before the newest from which `bakery watch` makes packs.
pub(crate) const PACKS_DEFAULT: usize = 3;

/// Errors of making or reading an update pack.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The revisions are not a pair.
    #[error("{0}")]
    Pair(String),
    /// A history cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer or the pack is not valid.
    #[error(transparent)]
    Format(#[from] layerfmt::FormatError),
    /// A layer cannot be read, or the pack cannot be written.
    #[error("cannot read the layers or write the update pack: {0}")]
    Io(#[from] std::io::Error),
    /// The record is not valid.
    #[error(transparent)]
    Record(#[from] wire::manifest::RecordError),
    /// The keys cannot be used.
    #[error(transparent)]
    Key(#[from] crate::keys::KeyError),
    /// The signature is not valid.
    #[error(transparent)]
    Trust(#[from] wire::trust::TrustError),
}

/// `Result` with an [`UpdateError`].
pub type Result<T> = std::result::Result<T, UpdateError>;

/// An update pack in the store.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Its name in the store.
    pub key: Key,
    /// Length of the file, bytes.
    pub len: u64,
    /// Time of writing, by the clock of the store.
    pub modified: std::time::SystemTime,
    /// The record of the pack.
    pub record: UpdateRecord,
}

fn require_pair(from: &Revision, to: &Revision) -> Result<ProfileName> {
    let (name, other) = (to.manifest.name(), from.manifest.name());
    if name != other || from.number() >= to.number() {
        return Err(UpdateError::Pair(format!(
            "{} is not a later revision than {} of the same profile: name an older and a newer revision of one profile",
            to.name(),
            from.name()
        )));
    }
    Ok(name)
}

/// The update packs to revision `to` of `name`, oldest start first. Omits packs with an unreadable
/// record.
///
/// # Errors
/// When the store cannot list.
pub(crate) fn leading_to(store: &Store, name: &ProfileName, to: u64) -> Result<Vec<Offer>> {
    let mut found = offers(store)?;
    found.retain(|offer| offer.record.name() == *name && offer.record.to.revision == to);
    Ok(found)
}
