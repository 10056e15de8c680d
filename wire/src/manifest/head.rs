//! The head record: the manifest of revision N of a history. Signed.

use serde::{Deserialize, Serialize};

use super::canonical::{self, RecordError, check};
use super::name::{self, ProfileName};
use super::{MANIFEST_LEN_MAX, ObjectRef};
use layerfmt::Digest;

/// Largest head, bytes; with its envelope it fits one network packet or two.
pub const HEAD_LEN_MAX: usize = 4096;

/// One link of a history: signed, stored once under its number, never overwritten.
///
/// System and profile are inside, so the head of one history is none of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Time from which clients do not accept it as the newest; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// [`RECORD_FORMAT`](super::RECORD_FORMAT).
    pub format: u64,
    /// When it was signed, in seconds since 1970 by the signer's clock.
    pub issued_at: u64,
    /// The manifest: BLAKE3 and length of its bytes.
    pub manifest: ObjectRef,
    /// BLAKE3 of the payload of the head before this one: the history is a chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The profile.
    pub profile: String,
    /// The number, counting from 1.
    pub revision: u64,
    /// The system.
    pub system: String,
}

impl Head {
    /// Read a head's payload.
    ///
    /// # Errors
    /// When the bytes are not the canonical form of a sound head.
    pub fn parse(bytes: &[u8]) -> Result<Head, RecordError> {
        let head: Head = canonical::parse("head", bytes, HEAD_LEN_MAX)?;
        head.validate()?;
        canonical::require_canonical("head", bytes, &head)?;
        Ok(head)
    }

    /// The canonical bytes, which are signed; `previous` of the next head is their digest.
    ///
    /// # Errors
    /// A field breaks a rule.
    pub fn render(&self) -> Result<Vec<u8>, RecordError> {
        self.validate()?;
        canonical::render("head", self)
    }

    /// System and profile.
    pub fn name(&self) -> ProfileName {
        ProfileName {
            system: self.system.clone(),
            profile: self.profile.clone(),
        }
    }

    fn validate(&self) -> Result<(), RecordError> {
        canonical::check_format("head", self.format)?;
        name::check_profile_name("head", &self.system, &self.profile)?;
        check("head", self.revision >= 1, "revision: counts from 1")?;
        check(
            "head",
            self.previous.is_some() == (self.revision > 1),
            "previous: every head except the first has one",
        )?;
        let fits = usize::try_from(self.manifest.len).is_ok_and(|len| len <= MANIFEST_LEN_MAX);
        check("head", fits, "manifest.len: larger than a manifest may be")?;
        canonical::check_lifetime("head", self.revision, self.issued_at, self.expires_at)
    }
}
