//! Update packs: what a client that has one revision needs of a newer one, in one file.
//!
//! The new chunks are encoded with the contents that the old revision has at the same path (or at
//! the most similar one), the new index with the old index. `docs/FORMAT.md` §18 is the format. A
//! pack is made after its revision was published; a revision never waits for one.

mod make;
mod offer;
mod pairs;
mod sources;
mod units;

use wire::manifest::{ProfileName, UpdateRecord};

use crate::history::{HistoryError, Revision};
use crate::store::{Key, Store, StoreError};

pub use make::{Made, make};
pub use offer::{is_wanted, missing, offers, read_record, verify_file};

/// Revisions before the newest that the watcher makes packs from.
pub const PACKS_DEFAULT: usize = 3;

/// The reason why there is no update pack.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The revisions are not a pair.
    #[error("{0}")]
    Pair(String),
    /// A history or the store.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer, or the pack.
    #[error(transparent)]
    Format(#[from] layerfmt::FormatError),
    /// Reading a layer, writing the pack.
    #[error("cannot read the layers or write the update pack: {0}")]
    Io(#[from] std::io::Error),
    /// The record.
    #[error(transparent)]
    Record(#[from] wire::manifest::RecordError),
    /// The keys.
    #[error(transparent)]
    Key(#[from] crate::keys::KeyError),
    /// The signature.
    #[error(transparent)]
    Trust(#[from] wire::trust::TrustError),
}

/// `Result` with an [`UpdateError`].
pub type Result<T> = std::result::Result<T, UpdateError>;

/// An update pack of the store.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Its name.
    pub key: Key,
    /// Length of the file, bytes.
    pub len: u64,
    /// When it was written, by the store's clock.
    pub modified: std::time::SystemTime,
    /// Its record.
    pub record: UpdateRecord,
}

fn require_pair(from: &Revision, to: &Revision) -> Result<ProfileName> {
    let (name, other) = (to.manifest.name(), from.manifest.name());
    if name != other || from.number() >= to.number() {
        return Err(UpdateError::Pair(format!(
            "{} is no later revision than {} of the same profile: name an older and a newer revision of one",
            to.name(),
            from.name()
        )));
    }
    Ok(name)
}

/// The update packs that lead to revision `to` of `name`, oldest start first. One whose record
/// cannot be read is left out.
///
/// # Errors
/// When the store cannot list.
pub fn leading_to(store: &Store, name: &ProfileName, to: u64) -> Result<Vec<Offer>> {
    let mut found = offers(store)?;
    found.retain(|offer| offer.record.name() == *name && offer.record.to.revision == to);
    Ok(found)
}
