//! Packed tables against raw ones.

use super::*;
use crate::digest::Digest;
use crate::index::builder::{Attributes, Body, Builder};
use crate::index::{Extent, Index, LayerRef};
use crate::layout::chunk::{Chunk, ChunkFile, Codec};
use crate::time::Time;

fn counts(inodes: u32) -> Counts {
    Counts {
        inodes,
        names_len: 3,
        ..Counts::default()
    }
}

/// A value of each width, and of no width, in the order of the columns.
fn columns(inodes: u32) -> Vec<Vec<u32>> {
    let most = [
        0,
        1,
        255,
        256,
        65_535,
        65_536,
        0xff_ffff,
        0x100_0000,
        u32::MAX,
        7,
        7,
        7,
    ];
    let column = |most: &u32| {
        (0..inodes)
            .map(|row| if row == 1 { *most } else { *most / 3 })
            .collect()
    };
    let rest = std::iter::repeat_n(Vec::new(), COLUMNS - most.len());
    most.iter().map(column).chain(rest).collect()
}

#[test]
fn packed_tables_have_the_values_and_the_bytes_of_raw_ones() {
    let areas = || [vec![], vec![], b"abc".to_vec(), vec![], vec![], vec![]];
    let layout = Columns::new(counts(3));
    let raw = assemble(counts(3), columns(3).into_iter(), areas());
    assert!(!raw.is_packed());
    let packed = packed(columns(3).into_iter(), areas());
    assert!(packed.bytes.len() < raw.bytes.len());
    for (column, values) in Column::ALL.into_iter().zip(columns(3)) {
        for (row, value) in (0..).zip(values) {
            assert_eq!(raw.value(column, row), value, "{column:?} {row}");
            assert_eq!(packed.value(column, row), value, "{column:?} {row}");
        }
    }
    assert_eq!(packed.area(Area::Names), b"abc");
    assert_eq!(packed.to_raw(&layout), raw.to_raw(&layout));
    let again = repack(&raw.bytes, &layout).unwrap().finish();
    assert_eq!(again.bytes, packed.bytes);
}

#[test]
fn one_column_of_equal_values_needs_no_bytes() {
    let mut packer = Packer::new();
    packer.column([9; 1000].into_iter());
    let tables = packer.finish();
    assert_eq!(tables.bytes.len(), 2 * PADDING.len());
    assert_eq!(tables.value(Column::InodeMode, 999), 9);
}

const LAYER: LayerRef = LayerRef {
    digest: Digest([3; 32]),
    file_len: 5 << 32,
};

fn chunk(offset: u64, source: ChunkFile) -> Chunk {
    Chunk {
        source,
        offset,
        stored_len: 10,
        raw_len: 300,
        codec: Codec::Zstd,
        digest: Digest([9; 32]),
    }
}

/// An index with rows in every table. `borrows`: it hides a name and borrows a chunk.
fn some_index(borrows: bool) -> (Vec<u8>, u64) {
    let mut builder = Builder::new();
    builder.chunk(&chunk(1024, ChunkFile::Own), None).unwrap();
    let mut chunks = vec![0];
    if borrows {
        let far = chunk(4 << 32, ChunkFile::Borrowed(0));
        chunks.push(builder.chunk(&far, Some(LAYER)).unwrap());
    }
    let pairs = [(&b"user.a"[..], &b"1"[..]), (&b"user.b"[..], &b"22"[..])];
    let xattrs = builder.xattr_set(pairs.into_iter()).unwrap();
    let attributes = |xattrs| Attributes {
        permissions: 0o755,
        uid: 70_000,
        gid: 5,
        mtime: Time { sec: -7, nsec: 999 },
        xattrs,
    };
    let directory = |parent| Body::Directory {
        opaque: false,
        parent,
    };
    builder.inode(&attributes(0), &directory(0)).unwrap();
    builder.open(0);
    let below = builder
        .object(b"below", &attributes(xattrs), &directory(0))
        .unwrap();
    let (mut extents, mut size) = (Vec::new(), 0);
    for chunk in chunks {
        extents.push(Extent {
            file_offset: size,
            chunk,
            chunk_offset: 3,
            len: 200,
        });
        size += 5 << 32;
    }
    let file = Body::File {
        size,
        extents: &extents,
    };
    let file = builder.object(b"file", &attributes(0), &file).unwrap();
    builder.link(b"file too", file).unwrap();
    builder
        .object(b"link", &attributes(0), &Body::Symlink(b"file"))
        .unwrap();
    builder
        .object(b"null", &attributes(0), &Body::Char(1, 3))
        .unwrap();
    if borrows {
        builder.whiteout(b"removed").unwrap();
    }
    builder.open(below);
    builder
        .object(b"pipe", &attributes(0), &Body::Fifo)
        .unwrap();
    (builder.finish(1034).unwrap().raw().into_owned(), 1034)
}

/// The section `raw` in packed form, if its header and its length are right.
fn repacked(raw: &[u8]) -> Option<(Packer, Counts)> {
    let counts = Counts::decode(raw).ok()?;
    let layout = Columns::new(counts);
    if raw.len() != layout.len() {
        return None;
    }
    repack(raw, &layout).ok().map(|packer| (packer, counts))
}

/// docs/FORMAT.md 15: the reader checks every rule of 6.
#[test]
fn a_lying_index_is_refused_in_both_forms_for_the_same_reason() {
    let (good, data_end) = some_index(true);
    let (mut refused, mut accepted) = (0, 0);
    for at in 0..good.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let Some((packer, counts)) = repacked(&bad) else {
                continue;
            };
            let packed = Index::packed(packer, counts, data_end);
            match (Index::decode(bad.clone(), data_end), packed) {
                (Ok(raw), Ok(packed)) => {
                    assert_eq!(packed.raw(), raw.raw());
                    accepted += 1;
                }
                (raw, packed) => {
                    assert_eq!(
                        packed.err().map(|e| e.to_string()),
                        raw.err().map(|e| e.to_string())
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(
        refused > good.len() && accepted > 100,
        "{refused} {accepted}"
    );
}

#[test]
fn a_layer_that_hides_nothing_and_borrows_nothing_is_its_own_merged_index() {
    let packed = |borrows| {
        let (raw, data_end) = some_index(borrows);
        let (packer, counts) = repacked(&raw).unwrap();
        Index::packed(packer, counts, data_end).unwrap()
    };
    let mut plain = packed(false);
    let input = crate::flatten::FlattenInput {
        index: std::sync::Arc::new(plain.clone()),
        layer: LAYER,
        content: None,
    };
    let merged = crate::flatten::flatten(&[input]).unwrap();
    assert!(plain.lend(LAYER));
    assert_eq!(plain.raw(), merged.index.raw());
    assert_eq!(plain.layer(0), Some(LAYER));
    let mut borrowing = packed(true);
    let before = borrowing.raw().into_owned();
    assert!(!borrowing.lend(LAYER));
    assert_eq!(borrowing.raw(), before);
}
