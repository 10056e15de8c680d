//! Errors about missing names in the store; they list the existing ones.

use std::sync::Arc;

use layerfmt::{ChunkFile, Digest, Layer, LayerSet, MergedIndex};
use wire::manifest::{Manifest, ProfileName, RevisionName};

use super::{History, HistoryError, Result};
use crate::store::StoreError;

/// Most names that one message lists.
const NAMES_LISTED_MAX: usize = 12;

impl History {
    /// The error about a missing history. It lists the existing ones.
    pub fn no_history(&self, name: &ProfileName) -> HistoryError {
        let there = match self.names() {
            Ok(names) => there(&names, self.store().location()),
            Err(_) => "`bakery profile list` shows the existing ones".into(),
        };
        let name = name.to_string();
        HistoryError::NoHistory { name, there }
    }

    /// The layers that hold the contents of one file of a merged index. Others are not opened: those of a bucket would be
    /// fetched whole.
    ///
    /// # Errors
    /// When one is missing or damaged.
    pub(crate) fn layers_of_file(
        &self,
        manifest: &Manifest,
        merged: &MergedIndex,
        ino: u32,
    ) -> Result<LayerSet> {
        let index = &merged.index;
        let chunks = index.extents(ino, 0..u64::MAX);
        let rows = chunks.filter_map(|extent| match index.chunk(extent.chunk)?.source {
            ChunkFile::Borrowed(row) => Some(row),
            ChunkFile::Own => None,
        });
        let rows: std::collections::BTreeSet<u32> = rows.collect();
        let layers = rows.into_iter().filter_map(|row| index.layer(row));
        let layers = layers.map(|layer| self.layer_of(manifest, &layer.digest));
        Ok(LayerSet::new(layers.collect::<Result<Vec<_>>>()?))
    }

    /// One layer of a revision; the error reports a swept revision.
    pub(super) fn layer_of(&self, manifest: &Manifest, digest: &Digest) -> Result<Arc<Layer>> {
        self.layer(digest).map_err(|error| match error {
            HistoryError::Store(error) => self.or_swept(manifest, error),
            error => error,
        })
    }

    /// The error about a missing object of a revision: swept on purpose, or lost.
    pub(super) fn or_swept(&self, manifest: &Manifest, error: StoreError) -> HistoryError {
        let revision = RevisionName {
            name: manifest.name(),
            revision: Some(manifest.revision),
        };
        self.swept_or(&revision, error)
    }

    /// Converts an error like [`History::or_swept`], for the revision with that name.
    pub(crate) fn swept_or(&self, revision: &RevisionName, error: StoreError) -> HistoryError {
        match error {
            StoreError::Missing(key) if self.is_swept(revision).unwrap_or(false) => {
                let name = revision.to_string();
                HistoryError::Swept { name, key }
            }
            error => error.into(),
        }
    }
}

/// The existing names of a store, as the second half of a message.
fn there(names: &[ProfileName], location: &str) -> String {
    if names.is_empty() {
        return format!(
            "the store {location} is empty: `bakery import SYSTEM SOURCE` makes its first system"
        );
    }
    let listed: Vec<String> = names
        .iter()
        .take(NAMES_LISTED_MAX)
        .map(ToString::to_string)
        .collect();
    let more = match names.len().saturating_sub(NAMES_LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more (`bakery profile list`)"),
    };
    format!("the store {location} has {}{more}", listed.join(", "))
}
