//! The early index in the META section of a large merged index.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Meta;
use crate::codec::{decode_section, encode_small, verify_section};
use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::index::Index;
use crate::index::early::EarlyRows;
use crate::layout::superblock::{SectionId, Superblock};
use crate::limits;

/// The label that holds it.
const LABEL: &str = "early-index";
/// An index with fewer inodes has none: most of it would be read at once.
const INODES_MIN: u32 = 100_000;

impl Meta {
    /// The META section of a merged index: with an early index if it is a large one. The files with
    /// contents in the layer `pack`, and all directories above them, come first.
    ///
    /// # Errors
    /// It cannot be compressed.
    pub(crate) fn of_merged(index: &Index, pack: Option<&Digest>) -> Result<Option<Meta>> {
        if index.inode_count() < INODES_MIN {
            return Ok(None);
        }
        Meta::with_early(index, &EarlyRows::choose(index, pack))
    }

    fn with_early(index: &Index, rows: &EarlyRows) -> Result<Option<Meta>> {
        let raw = rows.encode(index);
        let value = BASE64.encode(encode_small(&raw)?);
        let fits = raw.len() as u64 <= limits::EARLY_INDEX_LEN_MAX
            && value.len() as u64 <= limits::META_LEN_MAX / 4 * 3;
        Ok(fits.then(|| Meta {
            labels: vec![(LABEL.to_owned(), value)],
            ..Meta::default()
        }))
    }

    /// The early index, if there is one.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn early(&self) -> Result<Option<Index>> {
        let label = self.labels.iter().find(|(name, _)| name == LABEL);
        let Some((_, value)) = label else {
            return Ok(None);
        };
        let frame = BASE64
            .decode(value)
            .map_err(|error| FormatError::corrupt("META", 0, format!("{LABEL}: {error}")))?;
        Index::early(&frame).map(Some)
    }

    /// The labels for people: without the early index.
    pub fn words(&self) -> impl Iterator<Item = &(String, String)> {
        self.labels.iter().filter(|(name, _)| name != LABEL)
    }

    /// Reads the stored bytes of the META section of a file with this superblock.
    ///
    /// # Errors
    /// They are not those that the superblock names, or damaged.
    pub fn of_stored(superblock: &Superblock, stored: &[u8]) -> Result<Meta> {
        let Some(section) = superblock.section(SectionId::Meta) else {
            return Err(FormatError::corrupt("META", 0, "no such section"));
        };
        verify_section(section, stored)?;
        Meta::decode(&decode_section(section, stored)?)
    }
}

#[cfg(test)]
mod tests;
