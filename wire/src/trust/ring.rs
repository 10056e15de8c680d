//! Verification of ring records, and of the head that a ring has. `docs/PROTOCOL.md` §9 numbers the
//! rules.

use super::allowed_signers::AllowedSigners;
use super::chain::{Signed, VerifiedHead, require_fresh, require_signer, rolled_back, verify_head};
use super::envelope::{Envelope, public_key_line};
use super::error::TrustError;
use super::{HighWater, RING_NAMESPACE};
use crate::manifest::{Head, Keyset, ProfileName, RecordError, RevisionName, RingRecord};
use layerfmt::Digest;

/// A verified ring record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRings {
    /// The record.
    pub record: RingRecord,
    /// Digest of its payload: `previous` of the next record.
    pub digest: Digest,
    /// The name of the key that signed it.
    pub signer: String,
}

/// Verifies the newest ring record of a history: a key that may sign heads of the history signed it.
///
/// # Errors
/// It is of another history, not signed by an allowed key, expired at `now`, or its number is below
/// `high_water`.
pub fn verify_rings(
    envelope: &[u8],
    anchors: &AllowedSigners,
    keyset: Option<&Keyset>,
    wanted: &ProfileName,
    now: u64,
    high_water: u64,
) -> Result<VerifiedRings, TrustError> {
    let envelope = Envelope::parse(envelope)?;
    let key = envelope.signed_by(RING_NAMESPACE)?;
    let line = public_key_line(&key)?;
    let record = RingRecord::parse(envelope.payload.as_bytes())?;
    require_name(wanted, &record)?;
    let signed = format!("ring record {} of {wanted}", record.number);
    let by = Signed {
        key: &key,
        line: &line,
        namespace: RING_NAMESPACE,
        issued_at: record.issued_at,
    };
    let signer = require_signer(&by, wanted, signed, anchors, keyset, now)?;
    require_fresh("ring record", record.expires_at, now)?;
    if record.number < high_water {
        return Err(rolled_back("ring record", high_water, record.number));
    }
    let digest = Digest::of(envelope.payload.as_bytes());
    Ok(VerifiedRings {
        record,
        digest,
        signer,
    })
}

fn require_name(wanted: &ProfileName, record: &RingRecord) -> Result<(), TrustError> {
    let name = record.name();
    if name == *wanted {
        return Ok(());
    }
    Err(TrustError::WrongName {
        wanted: format!("the rings of {wanted}"),
        found: format!("the rings of {name}"),
    })
}

/// Verifies the ring record before `newer` only through the chain.
///
/// # Errors
/// The bytes are not the record that `newer` names.
pub fn verify_previous_rings(
    newer: &RingRecord,
    envelope: &[u8],
) -> Result<VerifiedRings, TrustError> {
    let envelope = Envelope::parse(envelope)?;
    let digest = Digest::of(envelope.payload.as_bytes());
    let record = RingRecord::parse(envelope.payload.as_bytes())?;
    require_name(&newer.name(), &record)?;
    let wanted = newer.previous.unwrap_or_default();
    if wanted != digest || record.number + 1 != newer.number {
        return Err(TrustError::WrongDigest {
            record: "previous ring record",
            wanted,
            found: digest,
        });
    }
    Ok(VerifiedRings {
        record,
        digest,
        signer: "the ring record after it".into(),
    })
}

/// Verifies the head that the machines of `ring` boot.
///
/// # Errors
/// The ring has another revision, or the head is not valid.
pub fn verify_ring_head(
    envelope: &[u8],
    record: &RingRecord,
    ring: &str,
    (anchors, keyset): (&AllowedSigners, Option<&Keyset>),
    now: u64,
    high_water: HighWater,
) -> Result<VerifiedHead, TrustError> {
    let name = record.name();
    let found = Head::parse(Envelope::parse(envelope)?.payload.as_bytes())?;
    let Some(ring) = record.ring(ring) else {
        let empty = RecordError::new("ring record", "it has no ring");
        return Err(TrustError::Malformed(empty));
    };
    let follows = record.follows_newest(ring);
    if follows && found.revision > ring.revision && !record.is_quarantined(found.revision) {
        let newest = RevisionName {
            name,
            revision: None,
        };
        let seen = high_water.revision;
        return verify_head(envelope, anchors, keyset, &newest, now, seen);
    }
    if found.name() != name || found.revision != ring.revision {
        let revision = Some(ring.revision);
        let wanted = RevisionName { name, revision };
        let revision = Some(found.revision);
        let found = RevisionName {
            name: found.name(),
            revision,
        };
        return Err(TrustError::WrongName {
            wanted: format!("{wanted} of the ring {}", ring.name),
            found: found.to_string(),
        });
    }
    // The first ring returns only from a quarantined revision.
    let seen = high_water.revision;
    if follows && seen > ring.revision && !record.is_quarantined(seen) {
        return Err(rolled_back("head", seen, found.revision));
    }
    named_by_ring(envelope, record, (anchors, keyset), now)
}

/// Verifies a head by its own signature, or by a ring record that names its digest, so that the
/// revision of a ring stays valid after its key was withdrawn.
pub(super) fn named_by_ring(
    envelope: &[u8],
    record: &RingRecord,
    (anchors, keyset): (&AllowedSigners, Option<&Keyset>),
    now: u64,
) -> Result<VerifiedHead, TrustError> {
    let parsed = Envelope::parse(envelope)?;
    let digest = Digest::of(parsed.payload.as_bytes());
    let head = Head::parse(parsed.payload.as_bytes())?;
    let names =
        |ring: &crate::manifest::Ring| ring.revision == head.revision && ring.head == digest;
    if head.name() == record.name() && record.rings.iter().any(names) {
        return Ok(VerifiedHead {
            head,
            digest,
            signer: "a ring record".into(),
        });
    }
    let wanted = RevisionName {
        name: record.name(),
        revision: Some(head.revision),
    };
    verify_head(envelope, anchors, keyset, &wanted, now, 0)
}

#[cfg(test)]
mod tests;
