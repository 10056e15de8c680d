//! The steps of the chain, one function each.

use super::allowed_signers::AllowedSigners;
use super::envelope::{Envelope, public_key_line};
use super::error::TrustError;
use super::{HEAD_NAMESPACE, KEYSET_NAMESPACE, KEYSET_PRINCIPAL, UPDATE_NAMESPACE};
use crate::manifest::{Head, Keyset, Manifest, ProfileName, RevisionName, Signer, UpdateRecord};
use layerfmt::Digest;

/// The newest numbers that a reader has seen, from its own storage; zero without any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HighWater {
    /// Version of the keyset.
    pub keyset: u64,
    /// Revision of the history.
    pub revision: u64,
    /// Number of the ring record.
    pub ring: u64,
}

impl HighWater {
    /// The newer one of each number.
    #[must_use]
    pub fn newest(self, other: HighWater) -> HighWater {
        HighWater {
            keyset: self.keyset.max(other.keyset),
            revision: self.revision.max(other.revision),
            ring: self.ring.max(other.ring),
        }
    }
}

/// A verified head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHead {
    /// The verified head.
    pub head: Head,
    /// Digest of its payload: `previous` of the next head.
    pub digest: Digest,
    /// The name of the key that signed it.
    pub signer: String,
}

/// Walk the keysets of a store, oldest first, and return the last.
///
/// The walk begins with the first keyset that a key of `anchors` signed: those before it are of a root that this reader does not
/// know, or no longer. Each later one must be signed by the roots that the one before it names (or, when it names none,
/// by the same as before). A reader may be given any run of versions that ends with the newest.
///
/// # Errors
/// When no keyset is signed by an anchor, when a signature or a number does not fit, when the last has expired at `now` or is
/// older than `high_water`.
pub fn verify_keysets<'a>(
    envelopes: impl IntoIterator<Item = &'a [u8]>,
    anchors: &AllowedSigners,
    now: u64,
    high_water: u64,
) -> Result<Keyset, TrustError> {
    let mut roots = anchors.clone();
    let mut last: Option<Keyset> = None;
    let mut unknown = TrustError::NoKeyset;
    for bytes in envelopes {
        let envelope = Envelope::parse(bytes)?;
        let key = envelope.signed_by(KEYSET_NAMESPACE)?;
        let line = public_key_line(&key)?;
        let keyset = Keyset::parse(envelope.payload.as_bytes())?;
        let signers = roots.signers(&line, KEYSET_PRINCIPAL, KEYSET_NAMESPACE);
        let signed = format!("keyset {}", keyset.version);
        match require_valid(signers, &key, signed, keyset.issued_at, now) {
            Err(error @ TrustError::UnknownKey { .. }) if last.is_none() => {
                unknown = error;
                continue;
            }
            valid => valid?,
        };
        if let Some(before) = last.filter(|before| before.version >= keyset.version) {
            return Err(rolled_back("keyset", before.version, keyset.version));
        }
        if !keyset.roots.is_empty() {
            roots = AllowedSigners::of_roots(&keyset.roots)?;
        }
        last = Some(keyset);
    }
    let keyset = last.ok_or(unknown)?;
    require_fresh("keyset", keyset.expires_at, now)?;
    if keyset.version < high_water {
        return Err(rolled_back("keyset", high_water, keyset.version));
    }
    Ok(keyset)
}

/// Verifies the head of a history, or the pinned revision that `wanted` names.
///
/// It must be signed by a key of the keyset, or by a key that `anchors` allows for this history. A
/// pinned revision is not the newest, so its own expiry does not matter; `high_water` does, and a
/// caller whose policy allows older revisions passes 0.
///
/// # Errors
/// It is of another history or revision, not signed by an allowed key, expired at `now`,
/// or older than `high_water`.
pub fn verify_head(
    envelope: &[u8],
    anchors: &AllowedSigners,
    keyset: Option<&Keyset>,
    wanted: &RevisionName,
    now: u64,
    high_water: u64,
) -> Result<VerifiedHead, TrustError> {
    let envelope = Envelope::parse(envelope)?;
    let key = envelope.signed_by(HEAD_NAMESPACE)?;
    let line = public_key_line(&key)?;
    let head = Head::parse(envelope.payload.as_bytes())?;
    let name = head.name();
    if name != wanted.name
        || wanted
            .revision
            .is_some_and(|revision| revision != head.revision)
    {
        let found = RevisionName {
            name,
            revision: Some(head.revision),
        }
        .to_string();
        return Err(TrustError::WrongName {
            wanted: wanted.to_string(),
            found,
        });
    }
    let signed = format!("revision {} of {name}", head.revision);
    let by = Signed {
        key: &key,
        line: &line,
        namespace: HEAD_NAMESPACE,
        issued_at: head.issued_at,
    };
    let signer = require_signer(&by, &name, signed, anchors, keyset, now)?;
    if wanted.revision.is_none() {
        require_fresh("head", head.expires_at, now)?;
    }
    if head.revision < high_water {
        return Err(rolled_back("head", high_water, head.revision));
    }
    let digest = Digest::of(envelope.payload.as_bytes());
    Ok(VerifiedHead {
        head,
        digest,
        signer,
    })
}

/// Verifies the record of an update pack: signed by a key that may sign heads of that history.
///
/// # Errors
/// When it is of another history, or not signed by a key that may.
pub fn verify_update(
    envelope: &[u8],
    anchors: &AllowedSigners,
    keyset: Option<&Keyset>,
    wanted: &ProfileName,
    now: u64,
) -> Result<UpdateRecord, TrustError> {
    let envelope = Envelope::parse(envelope)?;
    let key = envelope.signed_by(UPDATE_NAMESPACE)?;
    let line = public_key_line(&key)?;
    let record = UpdateRecord::parse(envelope.payload.as_bytes())?;
    let name = record.name();
    if name != *wanted {
        return Err(TrustError::WrongName {
            wanted: wanted.to_string(),
            found: name.to_string(),
        });
    }
    let signed = format!("the update of {name} to revision {}", record.to.revision);
    let by = Signed {
        key: &key,
        line: &line,
        namespace: UPDATE_NAMESPACE,
        issued_at: record.issued_at,
    };
    require_signer(&by, &name, signed, anchors, keyset, now)?;
    Ok(record)
}

/// Verifies an update record like [`verify_update`], from the reader's own storage: its key must have been
/// valid when the record was issued, and must not be revoked. The reader verified it when it came, and its
/// clock may be wrong.
///
/// # Errors
/// Those of [`verify_update`].
pub fn verify_kept_update(
    envelope: &[u8],
    anchors: &AllowedSigners,
    keyset: Option<&Keyset>,
    wanted: &ProfileName,
) -> Result<UpdateRecord, TrustError> {
    let payload = Envelope::parse(envelope)?.payload;
    let then = UpdateRecord::parse(payload.as_bytes())?.issued_at;
    verify_update(envelope, anchors, keyset, wanted, then)
}

/// The key of a record, and the record's purpose.
pub(super) struct Signed<'s> {
    pub(super) key: &'s ssh_key::PublicKey,
    pub(super) line: &'s str,
    pub(super) namespace: &'static str,
    pub(super) issued_at: u64,
}

/// The name of the signer, if it may sign records of `name`: by the keyset or by the anchors.
pub(super) fn require_signer(
    by: &Signed<'_>,
    name: &ProfileName,
    signed: String,
    anchors: &AllowedSigners,
    keyset: Option<&Keyset>,
    now: u64,
) -> Result<String, TrustError> {
    let full = name.full();
    let of_keyset = keyset.iter().flat_map(|keyset| &keyset.keys);
    let of_keyset = of_keyset.filter(|signer| signer.key == by.line);
    if let Some(revoked) = of_keyset.clone().find(|signer| signer.revoked) {
        return Err(TrustError::RevokedKey {
            name: revoked.name.clone(),
        });
    }
    let signers = of_keyset
        .filter(|signer| signer.covers(name))
        .chain(anchors.signers(by.line, &full, by.namespace));
    require_valid(signers, by.key, signed, by.issued_at, now)
}

/// Verifies the head before `newer` only through the chain: the signer of `newer` confirmed it. So a revision
/// stays readable after its key was withdrawn.
///
/// # Errors
/// The bytes are not the head that `newer` names.
pub fn verify_previous(newer: &Head, envelope: &[u8]) -> Result<VerifiedHead, TrustError> {
    let envelope = Envelope::parse(envelope)?;
    let digest = Digest::of(envelope.payload.as_bytes());
    let head = Head::parse(envelope.payload.as_bytes())?;
    let wanted = RevisionName {
        name: newer.name(),
        revision: Some(newer.revision.saturating_sub(1)),
    };
    let found = RevisionName {
        name: head.name(),
        revision: Some(head.revision),
    };
    if wanted != found {
        let (wanted, found) = (wanted.to_string(), found.to_string());
        return Err(TrustError::WrongName { wanted, found });
    }
    match newer.previous {
        Some(promised) if promised == digest => Ok(VerifiedHead {
            head,
            digest,
            signer: "the head after it".into(),
        }),
        promised => {
            let wanted = promised.unwrap_or_default();
            Err(TrustError::WrongDigest {
                record: "previous head",
                wanted,
                found: digest,
            })
        }
    }
}

/// Check a manifest's bytes against its head and read them.
///
/// # Errors
/// When they are not the bytes the head names, or not a manifest of that history and revision.
pub fn verify_manifest(bytes: &[u8], head: &Head) -> Result<Manifest, TrustError> {
    let found = Digest::of(bytes);
    if found != head.manifest.digest {
        let wanted = head.manifest.digest;
        return Err(TrustError::WrongDigest {
            record: "manifest",
            wanted,
            found,
        });
    }
    let manifest = Manifest::parse(bytes)?;
    let wanted = RevisionName {
        name: head.name(),
        revision: Some(head.revision),
    };
    let found = RevisionName {
        name: manifest.name(),
        revision: Some(manifest.revision),
    };
    if wanted != found {
        let (wanted, found) = (wanted.to_string(), found.to_string());
        return Err(TrustError::WrongName { wanted, found });
    }
    Ok(manifest)
}

/// The name of a signer among `signers` that was valid at the time of issue and has not expired now.
fn require_valid<'a>(
    signers: impl Iterator<Item = &'a Signer>,
    key: &ssh_key::PublicKey,
    signed: String,
    issued_at: u64,
    now: u64,
) -> Result<String, TrustError> {
    let mut outside = None;
    for signer in signers {
        let started = signer.valid_after.is_none_or(|from| issued_at >= from);
        // Of two clocks the later one counts: a backdated record does not revive a key.
        let over = signer
            .valid_before
            .is_some_and(|end| issued_at.max(now) >= end);
        if started && !over {
            return Ok(signer.name.clone());
        }
        outside = Some(signer.name.clone());
    }
    Err(match outside {
        Some(name) => TrustError::KeyNotValid {
            name,
            issued_at,
            now,
        },
        None => {
            let fingerprint = key.fingerprint(ssh_key::HashAlg::Sha256).to_string();
            TrustError::UnknownKey {
                fingerprint,
                signed,
            }
        }
    })
}

pub(super) fn require_fresh(
    record: &'static str,
    expires_at: Option<u64>,
    now: u64,
) -> Result<(), TrustError> {
    match expires_at {
        Some(expires_at) if now >= expires_at => Err(TrustError::Expired {
            record,
            expires_at,
            now,
        }),
        _ => Ok(()),
    }
}

pub(super) fn rolled_back(record: &'static str, seen: u64, offered: u64) -> TrustError {
    TrustError::RolledBack {
        record,
        seen,
        offered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{RECORD_FORMAT, UpdateEnd, UpdateHeadRef};
    use crate::trust::tests::{NOW, key, keyset, signer};

    fn update_record() -> UpdateRecord {
        let end = |revision| UpdateEnd {
            index: Digest([3; 32]),
            revision,
        };
        UpdateRecord {
            format: RECORD_FORMAT,
            frames_len: 1,
            from: end(1),
            head: UpdateHeadRef {
                digest: Digest([4; 32]),
                len: 1,
                raw_len: 1,
            },
            issued_at: NOW - 10,
            plain_len: 1,
            profile: "main".into(),
            system: "alt".into(),
            to: end(2),
        }
    }

    /// A record that the reader verified when it came stays valid after its key's time, as a revision does; a
    /// revoked key, and one that was not valid then, sign nothing.
    #[test]
    fn a_kept_update_outlives_the_time_of_its_key_only() {
        let payload = update_record().render().unwrap();
        let envelope = Envelope::sign(&payload, UPDATE_NAMESPACE, &key(1)).unwrap();
        let envelope = envelope.render().unwrap();
        let (none, name) = (AllowedSigners::default(), "alt".parse().unwrap());
        let check = |signer: Signer| {
            let keyset = keyset(1, vec![signer]);
            (
                verify_update(&envelope, &none, Some(&keyset), &name, NOW),
                verify_kept_update(&envelope, &none, Some(&keyset), &name),
            )
        };
        let (fresh, kept) = check(signer(1, "alt/*"));
        assert!(fresh.is_ok() && kept.is_ok());
        let (fresh, kept) = check(Signer {
            valid_before: Some(NOW),
            ..signer(1, "alt/*")
        });
        assert!(matches!(fresh, Err(TrustError::KeyNotValid { .. })));
        assert_eq!(kept.unwrap(), update_record());
        let (_, kept) = check(Signer {
            valid_before: Some(NOW - 10),
            ..signer(1, "alt/*")
        });
        assert!(matches!(kept, Err(TrustError::KeyNotValid { .. })));
        let (_, kept) = check(Signer {
            revoked: true,
            ..signer(1, "alt/*")
        });
        assert!(matches!(kept, Err(TrustError::RevokedKey { .. })));
    }
}
