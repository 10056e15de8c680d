use super::*;
use crate::manifest::{Head, Keyset, ObjectRef, RECORD_FORMAT, Signer};
use layerfmt::Digest;
use proptest::prelude::*;
use ssh_key::PrivateKey;
use ssh_key::private::{Ed25519Keypair, KeypairData};

pub(super) const NOW: u64 = 1_795_414_500;

pub(super) fn key(seed: u8) -> PrivateKey {
    let pair = Ed25519Keypair::from_seed(&[seed; 32]);
    PrivateKey::new(KeypairData::Ed25519(pair), "").unwrap()
}

fn line(seed: u8) -> String {
    public_key_line(key(seed).public_key()).unwrap()
}

pub(super) fn anchors(seed: u8) -> AllowedSigners {
    AllowedSigners::parse(&format!(
        "keyset namespaces=\"{KEYSET_NAMESPACE}\" {}",
        line(seed)
    ))
    .unwrap()
}

pub(super) fn signer(seed: u8, systems: &str) -> Signer {
    Signer {
        key: line(seed),
        name: format!("key-{seed}"),
        revoked: false,
        systems: vec![systems.into()],
        valid_after: None,
        valid_before: None,
    }
}

pub(super) fn keyset(version: u64, keys: Vec<Signer>) -> Keyset {
    Keyset {
        expires_at: None,
        format: RECORD_FORMAT,
        issued_at: NOW - 100,
        keys,
        roots: vec![],
        version,
    }
}

pub(super) fn signed_keyset(keyset: &Keyset, seed: u8) -> Vec<u8> {
    let payload = keyset.render().unwrap();
    Envelope::sign(&payload, KEYSET_NAMESPACE, &key(seed))
        .unwrap()
        .render()
        .unwrap()
}

pub(super) fn head(revision: u64) -> Head {
    Head {
        expires_at: None,
        format: RECORD_FORMAT,
        issued_at: NOW - 10,
        manifest: ObjectRef {
            digest: Digest([1; 32]),
            len: 10,
        },
        previous: (revision > 1).then_some(Digest([2; 32])),
        profile: "main".into(),
        revision,
        system: "alt".into(),
    }
}

pub(super) fn signed_head(head: &Head, seed: u8) -> Vec<u8> {
    let payload = head.render().unwrap();
    Envelope::sign(&payload, HEAD_NAMESPACE, &key(seed))
        .unwrap()
        .render()
        .unwrap()
}

fn check(
    envelope: &[u8],
    keys: Vec<Signer>,
    wanted: &str,
    high_water: u64,
) -> Result<VerifiedHead, TrustError> {
    let keyset = keyset(1, keys);
    verify_head(
        envelope,
        &AllowedSigners::default(),
        Some(&keyset),
        &wanted.parse().unwrap(),
        NOW,
        high_water,
    )
}

#[test]
fn a_head_of_an_allowed_key_is_taken() {
    let verified = check(
        &signed_head(&head(3), 1),
        vec![signer(1, "alt/*")],
        "alt",
        3,
    )
    .unwrap();
    assert_eq!(verified.head, head(3));
    assert_eq!(verified.signer, "key-1");
    assert_eq!(verified.digest, Digest::of(&head(3).render().unwrap()));
}

#[test]
fn a_head_is_refused_for_each_reason_by_its_name() {
    let good = signed_head(&head(3), 1);
    let keys = || vec![signer(1, "alt/*")];
    let error = |envelope: &[u8], keys, wanted, high_water| {
        check(envelope, keys, wanted, high_water).unwrap_err()
    };
    assert!(matches!(
        error(&good, keys(), "alt", 4),
        TrustError::RolledBack { seen: 4, .. }
    ));
    assert!(matches!(
        error(&good, keys(), "other", 0),
        TrustError::WrongName { .. }
    ));
    assert!(matches!(
        error(&good, keys(), "alt/lab", 0),
        TrustError::WrongName { .. }
    ));
    assert!(matches!(
        error(&good, keys(), "alt@2", 0),
        TrustError::WrongName { .. }
    ));
    let stranger = signed_head(&head(3), 2);
    assert!(matches!(
        error(&stranger, keys(), "alt", 0),
        TrustError::UnknownKey { .. }
    ));
    let elsewhere = vec![signer(1, "other/*")];
    assert!(matches!(
        error(&good, elsewhere, "alt", 0),
        TrustError::UnknownKey { .. }
    ));
    let revoked = vec![Signer {
        revoked: true,
        ..signer(1, "alt/*")
    }];
    assert!(matches!(
        error(&good, revoked, "alt", 0),
        TrustError::RevokedKey { .. }
    ));
    let over = vec![Signer {
        valid_before: Some(NOW),
        ..signer(1, "alt/*")
    }];
    assert!(matches!(
        error(&good, over, "alt", 0),
        TrustError::KeyNotValid { .. }
    ));
    let later = vec![Signer {
        valid_after: Some(NOW),
        ..signer(1, "alt/*")
    }];
    assert!(matches!(
        error(&good, later, "alt", 0),
        TrustError::KeyNotValid { .. }
    ));
    let expired = signed_head(
        &Head {
            expires_at: Some(NOW),
            ..head(3)
        },
        1,
    );
    assert!(matches!(
        error(&expired, keys(), "alt", 0),
        TrustError::Expired { .. }
    ));
    assert!(
        check(&expired, keys(), "alt@3", 0).is_ok(),
        "a pinned revision does not expire"
    );
    let payload = head(3).render().unwrap();
    let keyset_kind = Envelope::sign(&payload, KEYSET_NAMESPACE, &key(1)).unwrap();
    let keyset_kind = keyset_kind.render().unwrap();
    assert!(matches!(
        error(&keyset_kind, keys(), "alt", 0),
        TrustError::WrongNamespace { .. }
    ));
}

#[test]
fn a_payload_under_a_signature_of_another_is_refused() {
    let mut envelope = Envelope::parse(&signed_head(&head(3), 1)).unwrap();
    envelope.payload = String::from_utf8(head(4).render().unwrap()).unwrap();
    let result = check(&envelope.render().unwrap(), vec![signer(1, "*")], "alt", 0);
    assert!(matches!(result, Err(TrustError::BadSignature(_))));
}

#[test]
fn an_allowed_signers_line_may_stand_in_for_a_keyset() {
    let allowed = AllowedSigners::parse(&format!(
        "# heads of one system\n\nalt/* namespaces=\"layerfs-head@v1\",valid-before=\"20991231Z\" {} bakery",
        line(1)
    ))
    .unwrap();
    let verify = |envelope: &[u8], wanted: &str| {
        verify_head(envelope, &allowed, None, &wanted.parse().unwrap(), NOW, 0)
    };
    assert_eq!(
        verify(&signed_head(&head(1), 1), "alt").unwrap().signer,
        "bakery"
    );
    let other = Head {
        system: "other".into(),
        ..head(1)
    };
    assert!(verify(&signed_head(&other, 1), "other").is_err());
    let keyset = signed_keyset(&keyset(1, vec![]), 1);
    assert!(
        verify_keysets([&keyset[..]], &allowed, NOW, 0).is_err(),
        "heads only"
    );
}

#[test]
fn keysets_hand_over_from_root_to_root() {
    let mut first = keyset(1, vec![signer(1, "*")]);
    first.roots = vec![line(11)];
    let second = keyset(2, vec![signer(2, "*")]);
    let (first, second) = (signed_keyset(&first, 10), signed_keyset(&second, 11));
    let verify = |list: &[&[u8]], high_water| {
        verify_keysets(list.iter().copied(), &anchors(10), NOW, high_water)
    };
    assert_eq!(verify(&[&first, &second], 0).unwrap().version, 2);
    assert_eq!(verify(&[&first], 1).unwrap().version, 1);
    assert!(matches!(
        verify(&[&first], 2),
        Err(TrustError::RolledBack { .. })
    ));
    assert!(matches!(
        verify(&[&second], 0),
        Err(TrustError::UnknownKey { .. })
    ));
    assert!(matches!(
        verify(&[&first, &first], 0),
        Err(TrustError::UnknownKey { .. })
    ));
    assert!(matches!(verify(&[], 0), Err(TrustError::NoKeyset)));
    let by_old_root = signed_keyset(&keyset(3, vec![]), 10);
    assert!(
        verify(&[&first, &by_old_root], 0).is_err(),
        "a retired root signs nothing more"
    );
}

#[test]
fn who_trusts_the_new_root_alone_begins_with_what_it_signed() {
    let mut second = keyset(2, vec![]);
    second.roots = vec![line(11)];
    let first = signed_keyset(&keyset(1, vec![]), 10);
    let second = signed_keyset(&second, 10);
    let third = signed_keyset(&keyset(3, vec![]), 11);
    let verify = |list: &[&[u8]]| verify_keysets(list.iter().copied(), &anchors(11), NOW, 0);
    assert_eq!(verify(&[&first, &second, &third]).unwrap().version, 3);
    let not_yet = verify(&[&first, &second]);
    assert!(
        matches!(not_yet, Err(TrustError::UnknownKey { .. })),
        "{not_yet:?}"
    );
    let by_old_root = signed_keyset(&keyset(4, vec![]), 10);
    assert!(
        verify(&[&first, &second, &third, &by_old_root]).is_err(),
        "only what comes before the first is passed over"
    );
}

#[test]
fn keyset_numbers_only_grow_and_keysets_end() {
    let two = signed_keyset(&keyset(2, vec![]), 10);
    let one = signed_keyset(&keyset(1, vec![]), 10);
    let ended = Keyset {
        expires_at: Some(NOW),
        ..keyset(3, vec![])
    };
    let ended = signed_keyset(&ended, 10);
    let four = signed_keyset(&keyset(4, vec![]), 10);
    let verify = |list: &[&[u8]]| verify_keysets(list.iter().copied(), &anchors(10), NOW, 0);
    assert!(matches!(
        verify(&[&two, &one]),
        Err(TrustError::RolledBack { .. })
    ));
    assert!(matches!(
        verify(&[&two, &ended]),
        Err(TrustError::Expired { .. })
    ));
    assert_eq!(
        verify(&[&two, &ended, &four]).unwrap().version,
        4,
        "only the newest must last"
    );
}

#[test]
fn an_old_head_is_believed_through_the_chain() {
    let old = signed_head(&head(1), 66);
    let digest = Digest::of(&head(1).render().unwrap());
    let newer = Head {
        previous: Some(digest),
        ..head(2)
    };
    assert_eq!(verify_previous(&newer, &old).unwrap().head, head(1));
    assert!(verify_previous(&head(2), &old).is_err(), "another digest");
    let skipped = Head {
        previous: Some(digest),
        ..head(3)
    };
    assert!(verify_previous(&skipped, &old).is_err(), "another number");
}

#[test]
fn a_bundle_carries_the_whole_chain() {
    let mut manifest =
        crate::manifest::Manifest::parse(include_bytes!("../../testdata/v1/manifest.json"))
            .unwrap();
    manifest.revision = 1;
    manifest.parent = None;
    let bytes = manifest.render().unwrap();
    let reference = ObjectRef {
        digest: Digest::of(&bytes),
        len: bytes.len() as u64,
    };
    let name = manifest.name();
    let head = Head {
        manifest: reference,
        system: name.system,
        profile: name.profile,
        ..head(1)
    };
    let keys = signed_keyset(&keyset(5, vec![signer(1, "alt-workstation/*")]), 10);
    let mut bundle = Bundle {
        keysets: vec![Envelope::parse(&keys).unwrap()],
        head: Envelope::parse(&signed_head(&head, 1)).unwrap(),
        manifest: String::from_utf8(bytes).unwrap(),
        rings: None,
    };
    bundle = Bundle::parse(&bundle.render().unwrap()).unwrap();
    let wanted = "alt-workstation/lab-3".parse().unwrap();
    let verify = |bundle: &Bundle, seen| bundle.verify(&anchors(10), &wanted, NOW, seen);
    let verified = verify(&bundle, HighWater::default()).unwrap();
    assert_eq!(verified.manifest, manifest);
    assert_eq!(
        verified.high_water,
        HighWater {
            keyset: 5,
            revision: 1,
            ring: 0
        }
    );
    assert!(
        verify(
            &bundle,
            HighWater {
                keyset: 6,
                ..HighWater::default()
            }
        )
        .is_err()
    );
    assert!(
        verify(
            &bundle,
            HighWater {
                revision: 2,
                ..HighWater::default()
            }
        )
        .is_err()
    );
    let stripped = Bundle {
        keysets: vec![],
        ..bundle.clone()
    };
    assert!(
        verify(
            &stripped,
            HighWater {
                keyset: 1,
                ..HighWater::default()
            }
        )
        .is_err()
    );
    bundle.manifest = bundle.manifest.replace("gimp", "pimg");
    let error = verify(&bundle, HighWater::default()).unwrap_err();
    assert!(matches!(
        error,
        TrustError::WrongDigest {
            record: "manifest",
            ..
        }
    ));
}

#[test]
fn an_allowed_signers_line_that_cannot_be_kept_is_an_error_with_its_number() {
    let key = line(1);
    for (text, expected) in [
        (format!("\n* cert-authority {key}"), "line 2: certificates"),
        (format!("!alt/*,* {key}"), "line 1: an empty or negated"),
        (format!("* valid-after=\"20260101\" {key}"), "with the Z"),
        (format!("* no-such=\"x\" {key}"), "unknown option"),
        ("* ssh-rsa AAAA".into(), "the key cannot be read"),
        ("*".into(), "not a key line"),
        (format!("* namespaces=\"a {key}"), "quotation mark"),
    ] {
        let error = AllowedSigners::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_changed_envelope_is_never_taken(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = signed_head(&head(3), 1);
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok(verified) = check(&bytes, vec![signer(1, "*")], "alt", 0) {
            // White space of the armor may be spelled differently; the payload may not.
            prop_assert_eq!(verified.head, head(3));
        }
    }

    #[test]
    fn an_arbitrary_signature_or_key_file_never_panics(text in "(.|\n){0,300}") {
        let armored =
            format!("-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n");
        for signature in [text.clone(), armored] {
            let envelope = Envelope { payload: "x".into(), signature };
            prop_assert!(envelope.signed_by(HEAD_NAMESPACE).is_err());
        }
        let _ = AllowedSigners::parse(&text);
        let _ = AllowedSigners::parse(&format!("* ssh-ed25519 {text}"));
    }
}
