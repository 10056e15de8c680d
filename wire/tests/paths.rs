//! Store paths and URLs: one spelling each, and the documents have the same tables.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::collections::BTreeSet;
use std::path::Path;

use layerfmt::Digest;
use proptest::prelude::*;
use wire::manifest::{ProfileName, RevisionName};
use wire::paths::{Class, Lifetime, LockKind, ObjectPath, Request, route};

const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn profile() -> impl Strategy<Value = ProfileName> {
    let name = "[a-z0-9][a-z0-9._-]{0,63}";
    (name, prop_oneof![Just("main".to_owned()), name])
        .prop_map(|(system, profile)| ProfileName { system, profile })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
}

fn object() -> impl Strategy<Value = ObjectPath> {
    let kind = prop_oneof![Just(LockKind::Publish), Just(LockKind::Sweep)];
    prop_oneof![
        Just(ObjectPath::Marker),
        any::<u64>().prop_map(ObjectPath::Keyset),
        (profile(), any::<u64>()).prop_map(|(name, number)| ObjectPath::Head(name, number)),
        (profile(), any::<u64>()).prop_map(|(name, number)| ObjectPath::Ring(name, number)),
        ("[0-9A-Za-z][0-9A-Za-z._-]{0,63}", any::<u64>())
            .prop_map(|(machine, number)| ObjectPath::Values(machine, number)),
        digest().prop_map(ObjectPath::Manifest),
        digest().prop_map(ObjectPath::Layer),
        digest().prop_map(ObjectPath::Index),
        digest().prop_map(ObjectPath::Pack),
        (profile(), any::<u64>(), any::<u64>())
            .prop_map(|(name, to, from)| ObjectPath::Update(name, to, from)),
        (digest(), digest()).prop_map(|(to, from)| ObjectPath::Delta(to, from)),
        digest().prop_map(ObjectPath::Boot),
        profile().prop_map(ObjectPath::Hint),
        (profile(), "[a-z0-9][a-z0-9._-]{0,63}").prop_map(|(name, tag)| ObjectPath::Tag(name, tag)),
        profile().prop_map(ObjectPath::Removed),
        (profile(), any::<u64>()).prop_map(|(name, number)| ObjectPath::Swept(name, number)),
        id().prop_map(ObjectPath::Purge),
        (kind, id()).prop_map(|(kind, id)| ObjectPath::Lock(kind, id)),
        (id(), id()).prop_map(|(run, name)| ObjectPath::Probe(run, name)),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let revision = prop_oneof![Just(None), (1..=u64::MAX).prop_map(Some)];
    let revision = (profile(), revision)
        .prop_map(|(name, revision)| RevisionName { name, revision })
        .boxed();
    prop_oneof![
        object()
            .prop_filter("served", |object| object.class().is_served())
            .prop_map(Request::Object),
        revision.clone().prop_map(Request::Bundle),
        Just(Request::Systems),
        digest().prop_map(Request::Batch),
        "[0-7][0-9A-HJKMNP-TV-Z]{25}".prop_map(Request::Job),
        (profile(), any::<u64>()).prop_map(|(name, number)| Request::Traces(name, number)),
        (profile(), any::<u64>()).prop_map(|(name, number)| Request::Boots(name, number)),
        Just(Request::Landing),
        Just(Request::Ipxe),
        revision.prop_map(Request::IpxeProfile),
        Just(Request::Grub),
        Just(Request::Pxelinux),
        Just(Request::Metrics),
        Just(Request::Healthz),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_object_path_is_read_back(object in object()) {
        let path = object.to_string();
        prop_assert_eq!(ObjectPath::parse(&path), Some(object.clone()));
        let directory = object.class().directory();
        prop_assert!(path.starts_with(directory));
        prop_assert_eq!(Request::parse(&object.url()).is_some(), object.class().is_served());
    }

    #[test]
    fn a_url_is_read_back(request in request()) {
        prop_assert_eq!(Request::parse(&request.to_string()), Some(request));
    }

    /// A change of one byte gives another object or none: no two spellings name the same one.
    #[test]
    fn one_object_has_one_spelling(object in object(), at in any::<usize>(), byte in 0x20_u8..0x7f) {
        let mut path = object.to_string().into_bytes();
        let at = at % path.len();
        prop_assume!(path[at] != byte);
        path[at] = byte;
        let path = String::from_utf8(path).unwrap();
        if let Some(other) = ObjectPath::parse(&path) {
            prop_assert_ne!(&other, &object);
            prop_assert_eq!(other.to_string(), path);
        }
    }

    #[test]
    fn any_text_is_refused_or_canonical(text in "\\PC{0,80}", directory in 0..Class::ALL.len()) {
        let path = format!("{}/{text}", Class::ALL[directory].directory());
        for path in [text, path] {
            if let Some(object) = ObjectPath::parse(&path) {
                prop_assert_eq!(object.to_string(), path.clone());
            }
            if let Some(request) = Request::parse(&path) {
                prop_assert_eq!(Request::parse(&request.to_string()), Some(request));
            }
        }
    }
}

#[test]
fn names_sort_like_numbers() {
    let name: ProfileName = "alt/lab".parse().unwrap();
    let [nine, ten] = [9, 10].map(|number| ObjectPath::Head(name.clone(), number).to_string());
    assert!(nine < ten);
    assert_eq!(ten, "refs/alt/lab/00000000000000000010");
}

#[test]
fn the_layout_is_the_published_one() {
    let (digest, name): (Digest, ProfileName) = (HEX.parse().unwrap(), "alt/lab".parse().unwrap());
    let revision = |revision| RevisionName {
        name: name.clone(),
        revision,
    };
    for (object, path) in [
        (ObjectPath::Layer(digest), format!("layers/{HEX}.layer")),
        (ObjectPath::Pack(digest), format!("packs/{HEX}.layer")),
        (ObjectPath::Index(digest), format!("indexes/{HEX}.index")),
        (ObjectPath::Manifest(digest), format!("manifests/{HEX}")),
        (ObjectPath::Boot(digest), format!("boot/{HEX}")),
        (ObjectPath::Keyset(1), "keysets/00000000000000000001".into()),
        (ObjectPath::Hint(name.clone()), "hints/alt/lab".into()),
        (
            ObjectPath::Lock(LockKind::Sweep, "purge-1".into()),
            "locks/sweep/purge-1".into(),
        ),
    ] {
        assert_eq!(object.to_string(), path);
    }
    for (request, path) in [
        (
            Request::Bundle(revision(None)),
            "/v1/bundle/alt/lab".to_owned(),
        ),
        (
            Request::Bundle(revision(Some(7))),
            "/v1/bundle/alt/lab@7".to_owned(),
        ),
        (Request::Batch(digest), format!("/v1/batch/{HEX}")),
        (
            Request::Traces(name.clone(), 7),
            "/v1/traces/alt/lab/7".to_owned(),
        ),
        (
            Request::Boots(name.clone(), 7),
            "/v1/boots/alt/lab/7".to_owned(),
        ),
        (
            Request::IpxeProfile(revision(None)),
            "/ipxe/alt/lab".to_owned(),
        ),
    ] {
        assert_eq!(request.to_string(), path);
    }
    assert_eq!(
        Request::parse("/ipxe/alt/main"),
        Request::parse("/ipxe/alt")
    );
}

#[test]
fn nothing_else_is_an_object() {
    for path in [
        "",
        "/",
        "layers",
        "layers/",
        "layers/../x",
        "../etc/passwd",
        "refs/../../x/00000000000000000001",
        "refs/a/b/1",
        "refs/a/b/000000000000000000010",
        "refs/a/b/+0000000000000000001",
        "refs/a/b/99999999999999999999",
        "refs/.a/b/00000000000000000001",
        "refs//b/00000000000000000001",
        "refs/a/b/c/00000000000000000001",
        "hints/a",
        "hints/a/b/c",
        "hints/a/..",
        "hints/a/-b",
        "hints/a/b\0",
        "hints/a/%2e%2e",
        "hints/a/\u{44f}",
        "keysets/x",
        "tags/a/b/",
        "tags/a/b/.x",
        "tags/a/b/X",
        "locks/other/x",
        "locks/sweep/../x",
        "purges/a/b",
        "private/key",
        "signing.key",
        "spool/jobs",
        "/store.json",
        "store.json/",
    ] {
        assert_eq!(ObjectPath::parse(path), None, "{path:?}");
        assert_eq!(
            Request::parse(&format!("/{path}")).filter(|_| !path.is_empty()),
            None,
            "{path:?}"
        );
    }
    for path in [
        format!("layers/{HEX}"),
        format!("layers/{}.layer", HEX.to_uppercase()),
        format!("boot/{HEX}.layer"),
        format!("layers/x/{HEX}.layer"),
    ] {
        assert_eq!(ObjectPath::parse(&path), None, "{path:?}");
    }
    for path in [
        "/v1/bundle/alt",
        "/v1/bundle/alt/lab@",
        "/v1/bundle/alt/lab@0",
        "/v1/bundle/alt/lab@07",
        "/v1/bundle/alt/lab@+7",
        "/v1/batch/x",
        "/v1/traces/alt/lab",
        "/v1/traces/alt/lab/07",
        "/v1/boots/../lab/7",
        "/v1/jobs/../x",
        "/v1/nothing",
        "/store.json",
        "/tags/alt/lab/x",
        "/locks/sweep/x",
    ] {
        assert_eq!(Request::parse(path), None, "{path:?}");
    }
}

/// The cells of the table rows of a document that follow `heading`.
fn rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let at = text.find(heading).unwrap_or_else(|| panic!("no {heading}"));
    let lines = text[at..].lines().skip_while(|line| !line.starts_with('|'));
    let table = lines.take_while(|line| line.starts_with('|')).skip(2);
    table
        .map(|line| {
            line.trim_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

/// The words in backquotes.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// `docs/PROTOCOL.md` §1: "the names of its files are also the paths of its URLs".
#[test]
fn the_document_lists_every_class() {
    let rows = rows("PROTOCOL.md", "## 1. Layout");
    let documented: Vec<&str> = rows.iter().flat_map(|row| code(&row[0])).collect();
    let mut templates = Class::ALL.map(Class::template).to_vec();
    templates.push("staging/…"); // no object: files on their way
    assert_eq!(documented, templates);
    for (row, class) in rows.iter().zip(Class::ALL) {
        let is_content = row[0].contains("<hex>");
        assert_eq!(
            class.lifetime() == Lifetime::Immutable,
            is_content,
            "{row:?}"
        );
        if is_content {
            assert_eq!(row[2], "created", "{row:?}");
        }
    }
    assert!(
        Class::CONTENT
            .iter()
            .all(|class| class.lifetime() == Lifetime::Immutable)
    );
}

/// A path with its parameters left out.
fn shape(path: &str) -> String {
    let mut shape = String::new();
    let mut inside = false;
    for char in path.chars() {
        match char {
            '<' | '{' => {
                inside = true;
                shape.push('*');
            }
            '>' | '}' => inside = false,
            _ if inside => {}
            char => shape.push(char),
        }
    }
    shape
}

/// `docs/HTTP.md`: "Paths outside this table are 404."
#[test]
fn the_document_lists_every_request() {
    let rows = rows("HTTP.md", "| request |");
    let mut documented = BTreeSet::new();
    for row in &rows {
        for word in row[..2].iter().flat_map(|cell| code(cell)) {
            let path = word.trim_start_matches("GET ").trim_start_matches("POST ");
            if word.starts_with(['G', 'P', '/']) && path.starts_with('/') {
                let path = path.replace("[@revision]", "").replace("[?ring=NAME]", "");
                let (long, short) = (
                    path.replace(['[', ']'], ""),
                    path.split('[').next().unwrap(),
                );
                documented.extend([shape(&long), shape(short)]);
                let object = Class::ALL
                    .into_iter()
                    .find(|class| shape(&format!("/{}", class.template())) == shape(&long));
                let Some(class) = object else { continue };
                let is_immutable = row[2].contains("immutable");
                assert_eq!(
                    class.lifetime() == Lifetime::Immutable,
                    is_immutable,
                    "{row:?}"
                );
                assert_eq!(row[2].contains("no-cache"), !is_immutable, "{row:?}");
            }
        }
    }
    let served = Class::ALL.into_iter().filter(|class| class.is_served());
    let served = served.map(|class| format!("/{}", class.template()));
    let known = served.chain(route::ALL.map(str::to_owned));
    assert_eq!(documented, known.map(|path| shape(&path)).collect());
}
