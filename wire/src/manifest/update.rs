//! The record of an update pack or an index delta: its two ends, and the digest of its head. Signed.

use serde::{Deserialize, Serialize};

use super::canonical::{self, INTEGER_MAX, RecordError, check};
use super::name::{self, ProfileName};
use layerfmt::{Digest, limits};

/// Largest record, bytes.
pub const UPDATE_RECORD_LEN_MAX: usize = 4096;

/// One end of an update pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateEnd {
    /// The digest of the revision's merged index: `index.digest` of its manifest, or, in an index
    /// delta, `plain.digest`.
    pub index: Digest,
    /// Its number.
    pub revision: u64,
}

/// The head of an update pack: the digest and length of its stored bytes, and its length once
/// decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateHeadRef {
    /// BLAKE3 of the stored bytes.
    pub digest: Digest,
    /// Length of the stored bytes.
    pub len: u32,
    /// Length of the raw bytes.
    pub raw_len: u32,
}

/// The signed statement about an update pack. The pack carries it, in its envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRecord {
    /// [`RECORD_FORMAT`](super::RECORD_FORMAT).
    pub format: u64,
    /// Length of everything after the head, bytes.
    pub frames_len: u64,
    /// The revision that a reader has.
    pub from: UpdateEnd,
    /// The pack's head.
    pub head: UpdateHeadRef,
    /// When it was signed, in seconds since 1970 by the signer's clock.
    pub issued_at: u64,
    /// Number of bytes that a reader of `from` fetches without the pack.
    pub plain_len: u64,
    /// The profile.
    pub profile: String,
    /// The system.
    pub system: String,
    /// The revision that the reader gets.
    pub to: UpdateEnd,
}

impl UpdateRecord {
    /// Read a record's payload.
    ///
    /// # Errors
    /// When the bytes are not the canonical form of a sound record.
    pub fn parse(bytes: &[u8]) -> Result<UpdateRecord, RecordError> {
        let record: UpdateRecord = canonical::parse("update", bytes, UPDATE_RECORD_LEN_MAX)?;
        record.validate()?;
        canonical::require_canonical("update", bytes, &record)?;
        Ok(record)
    }

    /// The canonical bytes: what is signed.
    ///
    /// # Errors
    /// When a field breaks a rule.
    pub fn render(&self) -> Result<Vec<u8>, RecordError> {
        self.validate()?;
        canonical::render("update", self)
    }

    /// System and profile.
    pub fn name(&self) -> ProfileName {
        ProfileName {
            system: self.system.clone(),
            profile: self.profile.clone(),
        }
    }

    fn validate(&self) -> Result<(), RecordError> {
        const RECORD: &str = "update";
        canonical::check_format(RECORD, self.format)?;
        name::check_profile_name(RECORD, &self.system, &self.profile)?;
        check(
            RECORD,
            self.from.revision >= 1,
            "from.revision: counts from 1",
        )?;
        check(
            RECORD,
            self.from.revision <= self.to.revision,
            "to.revision: before from.revision",
        )?;
        check(
            RECORD,
            self.head.len.max(self.head.raw_len) <= limits::UPDATE_HEAD_LEN_MAX,
            "head: longer than a head may be",
        )?;
        let most = self.to.revision.max(self.frames_len).max(self.plain_len);
        check(
            RECORD,
            most.max(self.issued_at) <= INTEGER_MAX,
            "a number above 2^53-1",
        )
    }
}
