use super::*;
use proptest::prelude::*;

fn object(n: u8) -> ObjectRef {
    ObjectRef {
        digest: Digest([n; 32]),
        len: u64::from(n) * 1000,
    }
}

fn manifest() -> Manifest {
    Manifest {
        action: Action::CherryPick,
        author: "Анна <anna@school>".into(),
        base: Some(BaseRevision {
            layers: 1,
            profile: "main".into(),
            revision: 7,
        }),
        borrowed: vec![object(9)],
        cmdline: "quiet layerfs.toram".into(),
        format: RECORD_FORMAT,
        index: IndexRef {
            digest: Digest([3; 32]),
            head_len: 4096,
            len: 5000,
        },
        initrd: Some(object(5)),
        kernel: Some(object(4)),
        layers: vec![object(1), object(2)],
        message: "install \"gimp\"\n\twith plugins".into(),
        pack: Some(object(6)),
        parent: Some(Digest([8; 32])),
        plain: Some(IndexRef {
            digest: Digest([10; 32]),
            head_len: 4000,
            len: 4900,
        }),
        profile: "lab-3".into(),
        revision: 12,
        system: "alt-workstation".into(),
        time: 1_795_414_500,
        tree_digest: Digest([7; 32]),
    }
}

fn head() -> Head {
    Head {
        expires_at: Some(1_795_500_000),
        format: RECORD_FORMAT,
        issued_at: 1_795_414_500,
        manifest: ObjectRef {
            digest: Digest([0xab; 32]),
            len: 1234,
        },
        previous: Some(Digest([0xcd; 32])),
        profile: "lab-3".into(),
        revision: 12,
        system: "alt-workstation".into(),
    }
}

fn keyset() -> Keyset {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    Keyset {
        expires_at: None,
        format: RECORD_FORMAT,
        issued_at: 1_795_414_500,
        keys: vec![Signer {
            key: key.into(),
            name: "bakery-1".into(),
            revoked: true,
            systems: vec!["alt-workstation/*".into()],
            valid_after: Some(5),
            valid_before: None,
        }],
        roots: vec![],
        version: 3,
    }
}

fn values() -> ValuesRecord {
    let values = [
        ("hostname", MachineValue::Text("pc17".into())),
        ("wifi", MachineValue::Sealed("5a".repeat(55))),
    ];
    ValuesRecord {
        author: "ann".into(),
        expires_at: None,
        format: RECORD_FORMAT,
        issued_at: 1_795_414_500,
        machine: "4c4c4544-0042-3510-8051-b4c04f564433".into(),
        message: "first desk".into(),
        number: 2,
        previous: Some(Digest([0xab; 32])),
        values: values.map(|(name, value)| (name.into(), value)).into(),
    }
}

fn rings() -> RingRecord {
    let ring = |name: &str, revision: u64| Ring {
        head: Digest([revision as u8; 32]),
        name: name.into(),
        paused: false,
        policy: None,
        revision,
    };
    let mut early = ring("early", 6);
    early.paused = true;
    early.policy = Some(RingPolicy {
        boots: Some(20),
        percent: Some(80),
        slower: Some(25),
        within: 86_400,
    });
    RingRecord {
        action: RingAction::Quarantine,
        author: "bakery watch".into(),
        expires_at: Some(1_795_500_000),
        format: RECORD_FORMAT,
        issued_at: 1_795_414_500,
        message: "8 failed on 3 machines".into(),
        number: 4,
        previous: Some(Digest([0xcd; 32])),
        profile: "lab-3".into(),
        quarantine_after: 3,
        quarantined: vec![5, 8],
        rings: vec![ring("canary", 7), early, ring("all", 6)],
        system: "alt-workstation".into(),
    }
}

/// docs/PROTOCOL.md R2: the first ring has the newest revision, unless it is paused or that
/// revision is quarantined.
#[test]
fn the_first_ring_has_the_newest_revision() {
    let mut record = rings();
    let current = |record: &RingRecord, ring: &str, newest| {
        record.current(record.ring(ring).unwrap(), newest)
    };
    assert_eq!(current(&record, "canary", 7), 7);
    assert_eq!(current(&record, "canary", 8), 7, "quarantined");
    assert_eq!(current(&record, "canary", 9), 9);
    assert_eq!(current(&record, "early", 9), 6);
    assert_eq!(current(&record, "no-such-ring", 9), 6, "R6: it is `all`");
    record.rings[0].paused = true;
    assert_eq!(current(&record, "canary", 9), 7, "paused");
}

#[test]
fn a_ring_record_that_breaks_a_rule_is_refused() {
    let breaks: [fn(&mut RingRecord); 17] = [
        |r| r.format = 2,
        |r| r.number = 0,
        |r| r.previous = None,
        |r| r.author = "a\nb".into(),
        |r| r.message = "x".repeat(257),
        |r| r.expires_at = Some(r.issued_at),
        |r| r.quarantined = vec![8, 5],
        |r| r.quarantined = vec![0],
        |r| r.quarantined = vec![6],
        |r| r.rings.clear(),
        |r| r.rings.truncate(2),
        |r| r.rings[1].name = "canary".into(),
        |r| r.rings[1].name = "../x".into(),
        |r| r.rings[0].revision = 0,
        |r| r.rings[0].policy = r.rings[1].policy,
        |r| r.rings[1].policy.as_mut().unwrap().percent = Some(101),
        |r| r.rings[1].policy.as_mut().unwrap().within = 0,
    ];
    for (number, break_rule) in breaks.into_iter().enumerate() {
        let mut broken = rings();
        break_rule(&mut broken);
        assert!(broken.render().is_err(), "{number}");
        let bytes = serde_json::to_vec(&broken).unwrap();
        assert!(RingRecord::parse(&bytes).is_err(), "{number}");
    }
}

#[test]
fn the_golden_records_have_not_changed() {
    let golden = [
        (
            "manifest",
            manifest().render().unwrap(),
            &include_bytes!("../../testdata/v1/manifest.json")[..],
        ),
        (
            "head",
            head().render().unwrap(),
            &include_bytes!("../../testdata/v1/head.json")[..],
        ),
        (
            "keyset",
            keyset().render().unwrap(),
            &include_bytes!("../../testdata/v1/keyset.json")[..],
        ),
        (
            "ring record",
            rings().render().unwrap(),
            &include_bytes!("../../testdata/v1/ring.json")[..],
        ),
        (
            "values record",
            values().render().unwrap(),
            &include_bytes!("../../testdata/v1/values.json")[..],
        ),
    ];
    for (record, rendered, frozen) in &golden {
        assert_eq!(
            String::from_utf8_lossy(rendered),
            String::from_utf8_lossy(frozen),
            "{record}"
        );
    }
    assert_eq!(Manifest::parse(golden[0].2).unwrap(), manifest());
    assert_eq!(Head::parse(golden[1].2).unwrap(), head());
    assert_eq!(Keyset::parse(golden[2].2).unwrap(), keyset());
    assert_eq!(RingRecord::parse(golden[3].2).unwrap(), rings());
    assert_eq!(ValuesRecord::parse(golden[4].2).unwrap(), values());
}

/// docs/PROTOCOL.md §10: the table of the values record.
#[test]
fn a_values_record_that_breaks_a_rule_is_refused() {
    let text = |text: &str| MachineValue::Text(text.into());
    let long = "x".repeat(4097);
    let breaks: [&dyn Fn(&mut ValuesRecord); 10] = [
        &|r| r.format = 2,
        &|r| r.number = 0,
        &|r| r.previous = None,
        &|r| r.machine = "../x".into(),
        &|r| r.author = "a\nb".into(),
        &|r| r.expires_at = Some(r.issued_at),
        &|r| drop(r.values.insert("Upper".into(), text("x"))),
        &|r| drop(r.values.insert("lines".into(), text("a\nb"))),
        &|r| drop(r.values.insert("long".into(), text(&long))),
        &|r| {
            drop(
                r.values
                    .insert("short".into(), MachineValue::Sealed("00".into())),
            )
        },
    ];
    for (number, break_rule) in breaks.into_iter().enumerate() {
        let mut broken = values();
        break_rule(&mut broken);
        assert!(broken.render().is_err(), "{number}");
        let bytes = serde_json::to_vec(&broken).unwrap();
        assert!(ValuesRecord::parse(&bytes).is_err(), "{number}");
    }
}

#[test]
fn only_the_canonical_spelling_is_taken() {
    let canonical = String::from_utf8(head().render().unwrap()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&canonical).unwrap();
    for other in [
        serde_json::to_string_pretty(&value).unwrap(),
        canonical.replace("\"revision\":12", "\"revision\":12.0"),
        canonical.replace("lab-3", "lab\\u002d3"),
        format!("{canonical}\n"),
        canonical.replacen('{', "{\"zeal\":1,", 1),
        canonical.replacen("\"format\":1,", "\"format\":1,\"format\":1,", 1),
        canonical.replace("\"format\":1", "\"format\":2"),
    ] {
        assert_ne!(other, canonical);
        assert!(Head::parse(other.as_bytes()).is_err(), "{other}");
    }
}

#[test]
fn a_manifest_that_breaks_a_rule_is_neither_written_nor_read() {
    type Break = (&'static str, fn(&mut Manifest));
    let breaks: [Break; 16] = [
        ("format", |m| m.format = 2),
        ("name", |m| m.system = "../etc".into()),
        ("name", |m| m.profile = String::new()),
        ("revision", |m| m.revision = 0),
        ("parent", |m| m.parent = None),
        ("author", |m| m.author = "a\nb".into()),
        ("cmdline", |m| m.cmdline = "quiet\nrm".into()),
        ("message", |m| m.message = "\u{1b}[2J".into()),
        ("at least one", |m| {
            m.layers.clear();
            m.base = None;
        }),
        ("twice", |m| m.layers.push(object(1))),
        ("also in layers", |m| m.borrowed = vec![object(1)]),
        ("digest order", |m| {
            m.borrowed = vec![object(11), object(10)]
        }),
        ("base.layers", |m| m.base.as_mut().unwrap().layers = 3),
        ("on itself", |m| {
            m.base.as_mut().unwrap().profile = "lab-3".into()
        }),
        ("head_len", |m| m.index.head_len = m.index.len + 1),
        ("2^53-1", |m| m.layers[0].len = 1 << 53),
    ];
    for (expected, break_rule) in breaks {
        let mut broken = manifest();
        break_rule(&mut broken);
        let error = broken.render().unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        let bytes = serde_json::to_vec(&broken).unwrap();
        assert!(Manifest::parse(&bytes).is_err(), "{expected}");
    }
}

#[test]
fn a_keyset_that_breaks_a_rule_is_refused() {
    let breaks: [fn(&mut Keyset); 5] = [
        |k| k.keys[0].systems.clear(),
        |k| k.keys[0].systems = vec!["alt".into()],
        |k| k.keys.push(k.keys[0].clone()),
        |k| k.version = 0,
        |k| k.expires_at = Some(k.issued_at),
    ];
    for break_rule in breaks {
        let mut broken = keyset();
        break_rule(&mut broken);
        assert!(broken.render().is_err());
        assert!(Keyset::parse(&serde_json::to_vec(&broken).unwrap()).is_err());
    }
}

#[test]
fn a_record_longer_than_its_bound_is_not_even_parsed() {
    let mut long = head().render().unwrap();
    long.resize(HEAD_LEN_MAX + 1, b' ');
    assert!(
        Head::parse(&long)
            .unwrap_err()
            .to_string()
            .contains("4097 bytes")
    );
}

#[test]
fn names_are_read_and_written_as_people_write_them() {
    for text in ["alt", "alt/lab-3", "alt@12", "alt/lab-3@12"] {
        assert_eq!(text.parse::<RevisionName>().unwrap().to_string(), text);
    }
    assert_eq!(
        "alt/main".parse::<ProfileName>().unwrap().to_string(),
        "alt"
    );
    assert_eq!("alt".parse::<ProfileName>().unwrap().full(), "alt/main");
    for wrong in [
        "", "/", "alt/", "/lab", "Alt", "a/b/c", "..", "alt@", "alt@0", "alt@+1", "alt@x", "-a",
    ] {
        assert!(wrong.parse::<RevisionName>().is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn a_changed_byte_never_passes_unseen(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = manifest().render().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // The reader either refuses it or reads a different manifest: never the same meaning from
        // other bytes.
        if let Ok(read) = Manifest::parse(&bytes) {
            prop_assert_ne!(read, manifest());
        }
    }

    #[test]
    fn arbitrary_text_is_refused_without_a_panic(text in ".{0,200}") {
        prop_assert!(Manifest::parse(text.as_bytes()).is_err());
        prop_assert!(Head::parse(text.as_bytes()).is_err());
        prop_assert!(Keyset::parse(text.as_bytes()).is_err());
        prop_assert!(RingRecord::parse(text.as_bytes()).is_err());
    }
}
