//! All records of one revision in one object: the answer to `GET /v1/bundle/…`.

use serde::{Deserialize, Serialize};

use super::allowed_signers::AllowedSigners;
use super::chain::{
    HighWater, VerifiedHead, rolled_back, verify_head, verify_keysets, verify_manifest,
};
use super::envelope::Envelope;
use super::error::TrustError;
use super::ring::{VerifiedRings, named_by_ring, verify_ring_head, verify_rings};
use crate::manifest::{Head, Keyset, MANIFEST_LEN_MAX, Manifest, RecordError, RevisionName};

/// Largest bundle, bytes: a manifest with every quote escaped, and a few keysets.
pub const BUNDLE_LEN_MAX: usize = 2 * MANIFEST_LEN_MAX + (4 << 20);

/// `{"keysets":[…],"head":…,"manifest":"…"}`: everything that a reader verifies, in one round trip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Every version, oldest first.
    pub keysets: Vec<Envelope>,
    /// The requested head.
    pub head: Envelope,
    /// The manifest's canonical text.
    pub manifest: String,
    /// The newest ring record, for a reader that named a ring; absent if the history has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rings: Option<Envelope>,
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

    /// Verifies the whole chain: keysets, head, manifest. Ring records do not count.
    ///
    /// # Errors
    /// The errors of [`verify_keysets`], [`verify_head`] and [`verify_manifest`].
    pub fn verify(
        &self,
        anchors: &AllowedSigners,
        wanted: &RevisionName,
        now: u64,
        high_water: HighWater,
    ) -> Result<Verified, TrustError> {
        let keyset = self.keyset(anchors, now, high_water)?;
        let seen = high_water.revision;
        let head = self.head.render()?;
        let head = verify_head(&head, anchors, keyset.as_ref(), wanted, now, seen)?;
        self.verified(keyset, head, high_water)
    }

    /// Verifies the whole chain for a reader that belongs to `ring`: keysets, ring record, head, manifest.
    ///
    /// # Errors
    /// The errors of [`Bundle::verify`], [`verify_rings`] and [`verify_ring_head`]; or the reader has seen a
    /// ring record and the bundle has none.
    pub fn verify_in_ring(
        &self,
        anchors: &AllowedSigners,
        wanted: &RevisionName,
        ring: &str,
        now: u64,
        high_water: HighWater,
    ) -> Result<Verified, TrustError> {
        let keyset = self.keyset(anchors, now, high_water)?;
        let rings = self.ring_record(anchors, keyset.as_ref(), wanted, now, high_water);
        let keys = (anchors, keyset.as_ref());
        let head = self.head.render()?;
        let seen = high_water.revision;
        let own = || verify_head(&head, anchors, keys.1, wanted, now, seen);
        let (verified, number) = if wanted.revision.is_some() {
            // The reader names the revision, so the ring record can only confirm its head.
            let rings = rings.ok().flatten();
            let verified = match (own(), &rings) {
                (
                    Err(
                        TrustError::UnknownKey { .. }
                        | TrustError::RevokedKey { .. }
                        | TrustError::KeyNotValid { .. },
                    ),
                    Some(rings),
                ) => named_by_ring(&head, &rings.record, keys, now)?,
                (own, _) => own?,
            };
            (verified, rings.map_or(0, |rings| rings.record.number))
        } else if let Some(VerifiedRings { record, .. }) = rings? {
            let verified = verify_ring_head(&head, &record, ring, keys, now, high_water)?;
            (verified, record.number)
        } else if high_water.ring > 0 {
            return Err(rolled_back("ring record", high_water.ring, 0));
        } else {
            (own()?, 0)
        };
        let mut verified = self.verified(keyset, verified, high_water)?;
        verified.high_water.ring = high_water.ring.max(number);
        Ok(verified)
    }

    fn keyset(
        &self,
        anchors: &AllowedSigners,
        now: u64,
        high_water: HighWater,
    ) -> Result<Option<Keyset>, TrustError> {
        let keysets = self
            .keysets
            .iter()
            .map(Envelope::render)
            .collect::<Result<Vec<_>, _>>()?;
        if keysets.is_empty() && high_water.keyset == 0 {
            return Ok(None);
        }
        let keysets = keysets.iter().map(Vec::as_slice);
        verify_keysets(keysets, anchors, now, high_water.keyset).map(Some)
    }

    fn ring_record(
        &self,
        anchors: &AllowedSigners,
        keyset: Option<&Keyset>,
        wanted: &RevisionName,
        now: u64,
        high_water: HighWater,
    ) -> Result<Option<VerifiedRings>, TrustError> {
        let Some(rings) = &self.rings else {
            return Ok(None);
        };
        let (rings, name) = (rings.render()?, &wanted.name);
        verify_rings(&rings, anchors, keyset, name, now, high_water.ring).map(Some)
    }

    fn verified(
        &self,
        keyset: Option<Keyset>,
        head: VerifiedHead,
        seen: HighWater,
    ) -> Result<Verified, TrustError> {
        let head = head.head;
        let manifest = verify_manifest(self.manifest.as_bytes(), &head)?;
        let high_water = HighWater {
            keyset: keyset.as_ref().map_or(0, |keyset| keyset.version),
            revision: seen.revision.max(head.revision),
            ring: seen.ring,
        };
        Ok(Verified {
            keyset,
            head,
            manifest,
            high_water,
        })
    }
}
