//! The behavior required of every store, as one suite: unit tests run it on directories and memory,
//! integration tests on a real S3.

use std::io::Write as _;

use bytes::Bytes;
use layerfmt::Digest;

use super::{Created, Key, Store, StoreError, check};

/// Longer than the longest single request, so it is uploaded in parts.
const LONG_LEN: usize = 40 << 20;

/// Run the suite; panics at the first thing that is wrong.
///
/// # Panics
/// When the store does not conform. This is test code.
#[expect(
    clippy::unwrap_used,
    reason = "test code: a failure must stop the test"
)]
pub fn run(store: &Store) {
    let defects: Vec<_> = check::probe(store)
        .unwrap()
        .into_iter()
        .filter(|f| f.defect.is_some())
        .collect();
    assert!(defects.is_empty(), "{defects:?}");
    assert!(
        store.list("probe").unwrap().is_empty(),
        "the probe cleans up"
    );
    objects(store);
    listings(store);
    files(store);
}

#[expect(
    clippy::unwrap_used,
    reason = "test code: a failure must stop the test"
)]
fn objects(store: &Store) {
    let key = Key::probe("conformance", "object");
    assert_eq!(store.get(&key, 10).unwrap(), None);
    assert!(matches!(
        store.require(&key, 10),
        Err(StoreError::Missing(_))
    ));
    assert_eq!(
        store
            .create_object(&key, Bytes::from_static(b"one"))
            .unwrap(),
        Created::New
    );
    assert_eq!(
        store
            .create_object(&key, Bytes::from_static(b"two"))
            .unwrap(),
        Created::Exists
    );
    assert_eq!(store.require(&key, 3).unwrap(), "one");
    assert!(matches!(
        store.get(&key, 2),
        Err(StoreError::TooLong { len: 3, .. })
    ));
    store.overwrite(&key, Bytes::from_static(b"three")).unwrap();
    assert_eq!(store.len(&key).unwrap(), Some(5));
    let age = store
        .entry(&key)
        .unwrap()
        .unwrap()
        .modified
        .elapsed()
        .unwrap_or_default();
    assert!(
        age < std::time::Duration::from_secs(300),
        "modified {age:?} ago"
    );
    store.delete(&key).unwrap();
    store.delete(&key).unwrap();
    assert_eq!(store.len(&key).unwrap(), None);
}

#[expect(
    clippy::unwrap_used,
    reason = "test code: a failure must stop the test"
)]
fn listings(store: &Store) {
    let names = ["b", "a", "c/d", "a-"];
    for name in names {
        let key = Key::probe("listing", name);
        store.create_object(&key, Bytes::from_static(b"x")).unwrap();
    }
    let neighbor = Key::probe("listing2", "x");
    store.create_object(&neighbor, Bytes::new()).unwrap();
    let listed = store.list("probe/listing").unwrap();
    let keys: Vec<&str> = listed.iter().map(|entry| entry.key.as_str()).collect();
    let expected = ["a", "a-", "b", "c/d"].map(|name| format!("probe/listing/{name}"));
    assert_eq!(keys, expected);
    assert!(listed.iter().all(|entry| entry.len == 1));
    for entry in listed {
        store.delete(&entry.key).unwrap();
    }
    store.delete(&neighbor).unwrap();
    assert!(store.list("probe").unwrap().is_empty());
}

#[expect(
    clippy::unwrap_used,
    reason = "test code: a failure must stop the test"
)]
fn files(store: &Store) {
    let dir = tempfile::tempdir().unwrap();
    for len in [0, 100, LONG_LEN] {
        let bytes: Vec<u8> = (0..len as u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let path = dir.path().join(len.to_string());
        std::fs::File::create(&path)
            .unwrap()
            .write_all(&bytes)
            .unwrap();
        let key = Key::boot(&Digest::of(&bytes));
        store.put_file(&key, &path).unwrap();
        store.put_file(&key, &path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(store.len(&key).unwrap(), Some(len as u64));
        let copy = std::fs::read(store.file(&key).unwrap()).unwrap();
        assert!(copy == bytes, "the bytes of the file of {len} changed");
        store.delete(&key).unwrap();
        if store.root().is_some() {
            assert!(matches!(store.file(&key), Err(StoreError::Missing(_))));
        }
    }
}
