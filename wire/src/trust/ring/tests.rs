//! docs/PROTOCOL.md §9, statements R4 to R9.

use super::super::tests::{NOW, anchors, head, key, keyset, signed_head, signed_keyset, signer};
use super::super::*;
use crate::manifest::{
    Head, Manifest, ObjectRef, RECORD_FORMAT, Ring, RingAction, RingRecord, Signer,
};
use layerfmt::Digest;

/// Number and revision of each head of the history; the manifests differ only in them.
fn revision(number: u64) -> (Head, String) {
    let golden = include_bytes!("../../../testdata/v1/manifest.json");
    let mut manifest = Manifest::parse(golden).unwrap();
    (manifest.system, manifest.profile) = ("alt".into(), "main".into());
    manifest.base = None;
    manifest.revision = number;
    manifest.parent = (number > 1).then_some(Digest([2; 32]));
    let bytes = manifest.render().unwrap();
    let head = Head {
        manifest: ObjectRef {
            digest: Digest::of(&bytes),
            len: bytes.len() as u64,
        },
        ..head(number)
    };
    (head, String::from_utf8(bytes).unwrap())
}

fn ring(name: &str, number: u64) -> Ring {
    Ring {
        head: Digest::of(&revision(number).0.render().unwrap()),
        name: name.into(),
        paused: false,
        policy: None,
        revision: number,
    }
}

fn record(number: u64, rings: Vec<Ring>) -> RingRecord {
    RingRecord {
        action: RingAction::Promote,
        author: "test".into(),
        expires_at: None,
        format: RECORD_FORMAT,
        issued_at: NOW - 5,
        message: String::new(),
        number,
        previous: (number > 1).then_some(Digest([3; 32])),
        profile: "main".into(),
        quarantine_after: 3,
        quarantined: Vec::new(),
        rings,
        system: "alt".into(),
    }
}

fn sealed(record: &RingRecord, seed: u8) -> Envelope {
    Envelope::sign(&record.render().unwrap(), RING_NAMESPACE, &key(seed)).unwrap()
}

/// A bundle with the head of `number`, signed by key 1.
fn bundle(number: u64, rings: Option<Envelope>) -> Bundle {
    let (head, manifest) = revision(number);
    Bundle {
        keysets: vec![Envelope::parse(&signed_keyset(&keyset(1, keys()), 10)).unwrap()],
        head: Envelope::parse(&signed_head(&head, 1)).unwrap(),
        manifest,
        rings,
    }
}

fn keys() -> Vec<Signer> {
    vec![signer(1, "alt/*"), signer(2, "alt/*"), signer(3, "other/*")]
}

fn boot(bundle: &Bundle, ring: &str, seen: HighWater) -> Result<Verified, TrustError> {
    let wanted = "alt".parse().unwrap();
    bundle.verify_in_ring(&anchors(10), &wanted, ring, NOW, seen)
}

fn seen(revision: u64, ring: u64) -> HighWater {
    HighWater {
        revision,
        ring,
        ..HighWater::default()
    }
}

fn two_rings() -> RingRecord {
    record(4, vec![ring("canary", 5), ring("all", 3)])
}

#[test]
fn a_reader_takes_the_revision_of_its_ring_only() {
    let rings = || Some(sealed(&two_rings(), 1));
    let nothing = HighWater::default();
    let verified = boot(&bundle(3, rings()), "all", nothing).unwrap();
    assert_eq!(verified.head.revision, 3);
    assert_eq!(
        (verified.high_water.revision, verified.high_water.ring),
        (3, 4)
    );
    // R6: an unknown ring is `all`.
    assert!(boot(&bundle(3, rings()), "none", nothing).is_ok());
    // R7: neither the newest head nor any other head is that of the ring.
    for number in [2, 4, 6] {
        let error = boot(&bundle(number, rings()), "all", nothing).unwrap_err();
        assert!(matches!(error, TrustError::WrongName { .. }), "{error}");
    }
    // R2: the first ring has the newest.
    for number in [5, 6, 9] {
        assert!(boot(&bundle(number, rings()), "canary", nothing).is_ok());
    }
    assert!(boot(&bundle(4, rings()), "canary", nothing).is_err());
}

/// R1, R10: without records the newest revision is valid.
#[test]
fn a_history_without_ring_records_is_as_before() {
    let plain = bundle(6, None);
    assert_eq!(boot(&plain, "canary", seen(6, 0)).unwrap().head.revision, 6);
    assert!(boot(&plain, "all", seen(7, 0)).is_err());
}

/// R5: a replayed ring record, and a withheld one, are refused.
#[test]
fn a_replayed_ring_record_is_refused() {
    let old = record(3, vec![ring("all", 6)]);
    let replayed = bundle(6, Some(sealed(&old, 1)));
    assert!(boot(&replayed, "all", seen(6, 3)).is_ok());
    for offered in [replayed, bundle(6, None)] {
        let error = boot(&offered, "all", seen(6, 4)).unwrap_err();
        let is_rollback = matches!(error, TrustError::RolledBack { record, seen: 4, .. } if record == "ring record");
        assert!(is_rollback, "{error}");
    }
}

/// R4: the signer, the history and the time.
#[test]
fn a_ring_record_is_refused_for_each_reason() {
    let nothing = HighWater::default();
    let stranger = bundle(3, Some(sealed(&two_rings(), 7)));
    assert!(matches!(
        boot(&stranger, "all", nothing).unwrap_err(),
        TrustError::UnknownKey { .. }
    ));
    let of_others = bundle(3, Some(sealed(&two_rings(), 3)));
    assert!(boot(&of_others, "all", nothing).is_err());
    let mut elsewhere = two_rings();
    elsewhere.profile = "lab".into();
    let error = boot(&bundle(3, Some(sealed(&elsewhere, 1))), "all", nothing).unwrap_err();
    assert!(matches!(error, TrustError::WrongName { .. }), "{error}");
    let mut expired = two_rings();
    expired.expires_at = Some(NOW);
    let error = boot(&bundle(3, Some(sealed(&expired, 1))), "all", nothing).unwrap_err();
    assert!(matches!(error, TrustError::Expired { .. }), "{error}");
    // A head is not a ring record.
    let (other, _) = revision(3);
    let envelope = Envelope::sign(&other.render().unwrap(), HEAD_NAMESPACE, &key(1)).unwrap();
    let error = boot(&bundle(3, Some(envelope)), "all", nothing).unwrap_err();
    assert!(
        matches!(error, TrustError::WrongNamespace { .. }),
        "{error}"
    );
}

/// R8: the first ring returns from a quarantined revision, and from no other.
#[test]
fn only_a_quarantine_takes_the_first_ring_back() {
    let mut record = record(5, vec![ring("canary", 5), ring("all", 5)]);
    record.quarantined = vec![8];
    let offered = |number| bundle(number, Some(sealed(&record, 1)));
    assert_eq!(
        boot(&offered(5), "canary", seen(8, 4))
            .unwrap()
            .head
            .revision,
        5
    );
    assert!(boot(&offered(8), "canary", seen(8, 4)).is_err());
    assert!(boot(&offered(9), "canary", seen(8, 5)).is_ok());
    let error = boot(&offered(5), "canary", seen(9, 5)).unwrap_err();
    assert!(matches!(error, TrustError::RolledBack { .. }), "{error}");
    // Another ring gets the revision in its record.
    assert!(boot(&offered(5), "all", seen(9, 5)).is_ok());
}

/// R7, R9: a record that names the digest makes a head valid whose key was withdrawn; it does not
/// make another head valid.
#[test]
fn a_ring_record_vouches_for_its_head() {
    let nothing = HighWater::default();
    let withdrawn = |number, rings| {
        let mut keys = keys();
        keys[0].revoked = true;
        Bundle {
            keysets: vec![Envelope::parse(&signed_keyset(&keyset(2, keys), 10)).unwrap()],
            ..bundle(number, rings)
        }
    };
    let record = two_rings();
    let rings = || Some(sealed(&record, 2));
    assert!(boot(&withdrawn(3, rings()), "all", nothing).is_ok());
    let error = boot(&withdrawn(6, rings()), "canary", nothing).unwrap_err();
    assert!(matches!(error, TrustError::RevokedKey { .. }), "{error}");
    let pinned = |bundle: &Bundle, wanted: &str| {
        bundle.verify_in_ring(&anchors(10), &wanted.parse().unwrap(), "all", NOW, nothing)
    };
    assert!(pinned(&withdrawn(3, rings()), "alt@3").is_ok());
    assert!(pinned(&withdrawn(3, None), "alt@3").is_err());
    assert!(pinned(&withdrawn(3, rings()), "alt@2").is_err());
    assert!(pinned(&withdrawn(2, rings()), "alt@2").is_err());
    // A record of a withdrawn key confirms nothing.
    assert!(pinned(&withdrawn(3, Some(sealed(&record, 1))), "alt@3").is_err());
    let mut forged = record.clone();
    forged.rings[1].head = Digest([9; 32]);
    let forged = Some(sealed(&forged, 2));
    assert!(boot(&withdrawn(3, forged), "all", nothing).is_err());
}

#[test]
fn ring_records_are_a_chain() {
    let old = record(1, vec![ring("all", 3)]);
    let bytes = sealed(&old, 66).render().unwrap();
    let mut newer = record(2, vec![ring("all", 4)]);
    assert!(verify_previous_rings(&newer, &bytes).is_err());
    newer.previous = Some(Digest::of(&old.render().unwrap()));
    assert_eq!(verify_previous_rings(&newer, &bytes).unwrap().record, old);
    newer.number = 3;
    assert!(verify_previous_rings(&newer, &bytes).is_err());
}
