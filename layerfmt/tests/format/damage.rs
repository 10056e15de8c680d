//! Damaged and hostile layers: one clear error, never a panic, never wrong bytes.

use std::sync::Arc;

use layerfmt::check::check;
use layerfmt::source::LayerSet;
use layerfmt::{ErrorKind, Layer};

use crate::arbitrary::bake;
use crate::golden::small_tree;

fn small_layer() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small");
    bake(&small_tree(), None, 1, &path);
    std::fs::read(path).unwrap()
}

/// Opens and checks everything; `Ok` only without faults.
fn verdict(bytes: Vec<u8>) -> layerfmt::error::Result<()> {
    let layer = Arc::new(Layer::from_vec(bytes)?);
    check(&layer, &LayerSet::default(), |_| ()).map(|_| ())
}

#[test]
fn every_byte_flipped_once_is_found() {
    let good = small_layer();
    verdict(good.clone()).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        let error = verdict(bad).expect_err(&format!("byte {at} flipped and nobody noticed"));
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn every_truncation_is_found() {
    let good = small_layer();
    for len in 0..good.len() {
        let error = verdict(good[..len].to_vec()).expect_err("cut off");
        assert!(
            matches!(
                error.kind(),
                ErrorKind::NotALayer | ErrorKind::Corrupt | ErrorKind::Io
            ),
            "{len}: {error}"
        );
    }
    let mut longer = good;
    longer.push(0);
    assert!(verdict(longer).is_err());
}

/// A malicious writer signs its own data: the raw INDEX is changed and every digest made to match.
/// Only the validator protects the accessors.
#[test]
fn a_lying_index_is_refused_or_harmless() {
    let good = Layer::from_vec(small_layer()).unwrap();
    let raw = good.index().raw().to_vec();
    let data_end = good.superblock().data_end;
    let mut refused = 0;
    for at in 0..raw.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = raw.clone();
            bad[at] ^= flip;
            match layerfmt::Index::decode(bad, data_end) {
                Err(_) => refused += 1,
                Ok(index) => walk_everything(&index),
            }
        }
    }
    assert!(refused > raw.len());
}

/// Touch every accessor with every number, also beyond the end.
fn walk_everything(index: &layerfmt::Index) {
    for ino in (0..index.inode_count() + 2).chain([u32::MAX]) {
        let _ = index.inode(ino);
        for entry in index.entries(ino, 0) {
            assert_eq!(index.lookup(ino, entry.name), Some(entry));
        }
        let _ = (
            index.lookup(ino, b"a"),
            index.parent(ino),
            index.symlink(ino),
        );
        let _ = (
            index.extents(ino, 0..u64::MAX).count(),
            index.xattrs(ino).count(),
        );
    }
    for id in (0..index.chunk_count() + 2).chain([u32::MAX]) {
        let _ = index.chunk(id);
        let _ = index.layer(id);
    }
}
