//! All records of one revision in one object: the answer to `GET /v1/bundle/…`.

use serde::{Deserialize, Serialize};

use super::allowed_signers::AllowedSigners;
use super::chain::{HighWater, verify_head, verify_keysets, verify_manifest};
use super::envelope::Envelope;
use super::error::TrustError;
use crate::manifest::{Head, Keyset, MANIFEST_LEN_MAX, Manifest, RecordError, RevisionName};

/// Largest bundle, bytes: a manifest with every quote escaped, and a few keysets.
pub const BUNDLE_LEN_MAX: usize = 2 * MANIFEST_LEN_MAX + (4 << 20);

/// `{"keysets":[…],"head":…,"manifest":"…"}`: everything to verify, in one round trip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Every version, oldest first.
    pub keysets: Vec<Envelope>,
    /// The requested head.
    pub head: Envelope,
    /// The manifest's canonical text.
    pub manifest: String,
}

/// A verified bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The newest keyset; `None` if the reader's own file allows the signer of the head.
    pub keyset: Option<Keyset>,
    /// The head.
    pub head: Head,
    /// The manifest.
    pub manifest: Manifest,
    /// Revision numbers to store: a reader never accepts an older one.
    pub high_water: HighWater,
}

impl Bundle {
    /// Reads a bundle without verifying signatures.
    ///
    /// # Errors
    /// The bytes are not a bundle.
    pub fn parse(bytes: &[u8]) -> Result<Bundle, TrustError> {
        let malformed = |what: String| TrustError::Malformed(RecordError::new("bundle", what));
        if bytes.len() > BUNDLE_LEN_MAX {
            return Err(malformed("larger than any bundle".into()));
        }
        serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))
    }

    /// The bytes to send.
    ///
    /// # Errors
    /// Never for a bundle of well-formed records.
    pub fn render(&self) -> Result<Vec<u8>, TrustError> {
        serde_json::to_vec(self)
            .map_err(|e| TrustError::Malformed(RecordError::new("bundle", e.to_string())))
    }

    /// The whole chain: keysets, head, manifest.
    ///
    /// # Errors
    /// As of [`verify_keysets`], [`verify_head`] and [`verify_manifest`].
    pub fn verify(
        &self,
        anchors: &AllowedSigners,
        wanted: &RevisionName,
        now: u64,
        high_water: HighWater,
    ) -> Result<Verified, TrustError> {
        let keysets = self
            .keysets
            .iter()
            .map(Envelope::render)
            .collect::<Result<Vec<_>, _>>()?;
        let keyset = if keysets.is_empty() && high_water.keyset == 0 {
            None
        } else {
            let keysets = keysets.iter().map(Vec::as_slice);
            Some(verify_keysets(keysets, anchors, now, high_water.keyset)?)
        };
        let head = self.head.render()?;
        let verified = verify_head(
            &head,
            anchors,
            keyset.as_ref(),
            wanted,
            now,
            high_water.revision,
        )?;
        let head = verified.head;
        let manifest = verify_manifest(self.manifest.as_bytes(), &head)?;
        let high_water = HighWater {
            keyset: keyset.as_ref().map_or(0, |keyset| keyset.version),
            revision: high_water.revision.max(head.revision),
        };
        Ok(Verified {
            keyset,
            head,
            manifest,
            high_water,
        })
    }
}
