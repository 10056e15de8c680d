//! The writer of archives and the reader of archives, each the other's test.

use std::collections::BTreeMap;
use std::ops::Range;

use layerfmt::tree::Time;
use proptest::prelude::*;
use source::tar::Tar;
use source::{Body, Limits, Source as _};
use wire::tar::{Archive, ArchiveEntry, ArchiveKind};

/// `setfacl -m u:54321:r--,g:54322:rwx` on a mode of 0640.
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 49, 212, 0, 0, 4, 0, 4, 0, 255, 255,
    255, 255, 8, 0, 7, 0, 50, 212, 0, 0, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255,
    255, 255,
];

#[derive(Debug, Clone, PartialEq)]
enum Object {
    File(Vec<u8>),
    /// Length of the file, and where it has data.
    Sparse(u64, Vec<Range<u64>>),
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    Directory,
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    path: Vec<u8>,
    object: Object,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Any bytes but those that end a component.
fn name(len_max: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("in a name", |byte| !matches!(byte, 0 | b'/'));
    prop::collection::vec(byte, 1..=len_max)
        .prop_filter("a name", |name| name != b"." && name != b"..")
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![9 => name(12), 1 => name(255)], 1..4)
        .prop_map(|names| names.join(&b'/'))
}

/// Ranges in order with holes between them; the file may end in one.
fn sparse() -> impl Strategy<Value = Object> {
    let steps = prop::collection::vec((1_u64..1 << 33, 1_u64..2000), 0..80);
    (steps, prop_oneof![Just(0), 1_u64..1 << 40]).prop_map(|(steps, hole)| {
        let mut end = 0;
        let mut ranges = Vec::new();
        for (hole, len) in steps {
            ranges.push(end + hole..end + hole + len);
            end += hole + len;
        }
        // Something must be missing, or the file is not sparse.
        let size = end + if ranges.is_empty() { hole + 1 } else { hole };
        Object::Sparse(size, ranges)
    })
}

fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3000).prop_map(Object::File),
        sparse(),
        path().prop_map(Object::HardLink),
        path().prop_map(Object::Symlink),
        Just(Object::Directory),
        (device(), device()).prop_map(|(major, minor)| Object::Char(major, minor)),
        (device(), device()).prop_map(|(major, minor)| Object::Block(major, minor)),
        Just(Object::Fifo),
    ]
}

fn xattrs() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let byte = prop_oneof![
        4 => any::<u8>().prop_filter("in a name", |byte| *byte != 0),
        1 => Just(b'='),
        1 => Just(b'%'),
    ];
    let name =
        prop::collection::vec(byte, 1..40).prop_map(|rest| [b"user.".as_slice(), &rest].concat());
    prop::collection::btree_map(name, prop::collection::vec(any::<u8>(), 0..200), 0..4)
}

fn sample() -> impl Strategy<Value = Sample> {
    let sec = prop_oneof![
        Just(0),
        Just(-1),
        Just(0o777_7777_7777),
        Just(0o777_7777_7777 + 1),
        -(1_i64 << 40)..1 << 40,
    ];
    let time = (sec, prop_oneof![Just(0), 0_u32..1_000_000_000]);
    let id = prop_oneof![0_u32..70_000, Just(0o777_7777), any::<u32>()];
    let fields = (
        0_u32..0o10000,
        id.clone(),
        id,
        time,
        xattrs(),
        any::<bool>(),
    );
    (path(), object(), fields).prop_map(|(path, object, fields)| {
        let (mode, uid, gid, mtime, mut xattrs, has_acl) = fields;
        let mut mode = mode;
        match object {
            Object::Symlink(_) => mode = 0o777,
            Object::File(_) if has_acl => {
                // The permissions of the list are those of the mode.
                mode = mode & 0o7000 | 0o670;
                xattrs.insert(b"system.posix_acl_access".to_vec(), ACL.to_vec());
            }
            _ => {}
        }
        Sample {
            path,
            object,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        }
    })
}

/// The bytes of the file at `offset`: different at every place.
fn bytes_at(range: &Range<u64>) -> impl Iterator<Item = u8> {
    range.clone().map(|at| (at % 251) as u8)
}

fn written(samples: &[Sample]) -> Vec<u8> {
    let mut archive = Archive::new(Vec::new());
    for sample in samples {
        let xattrs: Vec<_> = sample.xattrs.clone().into_iter().collect();
        let mut data = Vec::new();
        let kind = match &sample.object {
            Object::File(bytes) => {
                data.clone_from(bytes);
                ArchiveKind::File(bytes.len() as u64, None)
            }
            Object::Sparse(len, ranges) => {
                data.extend(ranges.iter().flat_map(bytes_at));
                ArchiveKind::File(*len, Some(ranges))
            }
            Object::HardLink(target) => ArchiveKind::HardLink(target),
            Object::Symlink(target) => ArchiveKind::Symlink(target),
            Object::Directory => ArchiveKind::Directory,
            Object::Char(major, minor) => ArchiveKind::Char(*major, *minor),
            Object::Block(major, minor) => ArchiveKind::Block(*major, *minor),
            Object::Fifo => ArchiveKind::Fifo,
        };
        let entry = ArchiveEntry {
            path: &sample.path,
            kind,
            mode: sample.mode,
            uid: sample.uid,
            gid: sample.gid,
            mtime: Time {
                sec: sample.mtime.0,
                nsec: sample.mtime.1,
            },
            xattrs: &xattrs,
        };
        archive.append(&entry, &mut &data[..]).unwrap();
    }
    archive.finish().unwrap()
}

fn read(bytes: &[u8]) -> Vec<Sample> {
    let mut tar = Tar::new("round trip", bytes, Limits::default());
    let mut samples = Vec::new();
    while let Some(entry) = tar.next_entry().unwrap() {
        let object = match entry.body {
            Body::File(data) => {
                let mut stored = Vec::new();
                data.reader.read_to_end(&mut stored).unwrap();
                let segments = data.segments.iter();
                let ranges: Vec<_> = segments.map(|(at, len)| *at..at + len).collect();
                if stored.len() as u64 == data.size {
                    Object::File(stored)
                } else {
                    assert!(ranges.iter().flat_map(bytes_at).eq(stored));
                    Object::Sparse(data.size, ranges)
                }
            }
            Body::HardLink(target) => Object::HardLink(target.as_bytes().to_vec()),
            Body::Symlink(target) => Object::Symlink(target.to_vec()),
            Body::Directory => Object::Directory,
            Body::Char(major, minor) => Object::Char(major, minor),
            Body::Block(major, minor) => Object::Block(major, minor),
            Body::Fifo => Object::Fifo,
            other => panic!("{other:?}"),
        };
        let xattrs = entry.meta.xattrs.iter().flat_map(|xattrs| xattrs.iter());
        samples.push(Sample {
            path: entry.path.as_bytes().to_vec(),
            object,
            mode: entry.meta.mode.into(),
            uid: entry.meta.uid,
            gid: entry.meta.gid,
            mtime: (entry.meta.mtime.sec, entry.meta.mtime.nsec),
            xattrs: xattrs
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
        });
    }
    samples
}

/// A device's major or minor number: what a header's seven octal digits hold, and more.
fn device() -> impl Strategy<Value = u32> {
    prop_oneof![
        0_u32..300,
        Just(0o777_7777),
        Just(0o1000_0000),
        any::<u32>()
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_the_writer_writes_the_reader_reads(samples in prop::collection::vec(sample(), 0..6)) {
        prop_assert_eq!(read(&written(&samples)), samples);
    }
}

/// GNU tar closes the map of such a file with an empty piece, and names it `DIR/GNUSparseFile.0/NAME`.
#[test]
fn a_file_that_ends_in_a_hole_is_written_as_gnu_tar_does() {
    let sample = |size, range: Range<u64>| {
        let bytes = written(&[Sample {
            path: b"d/f".to_vec(),
            object: Object::Sparse(size, std::iter::once(range).collect()),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: BTreeMap::new(),
        }]);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let hole = sample(1000, 4..8);
    assert!(hole.contains("2\n4\n4\n1000\n0\n\0"), "{hole:?}");
    assert!(hole.contains("d/GNUSparseFile.0/f\0"), "{hole:?}");
    let data = sample(8, 4..8);
    assert!(data.contains("1\n4\n4\n\0"), "{data:?}");
}

/// An archive that is not what its headers say is never finished.
#[test]
fn data_of_another_length_is_an_error() {
    let entry = ArchiveEntry {
        path: b"f",
        kind: ArchiveKind::File(10, None),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time { sec: 0, nsec: 0 },
        xattrs: &[],
    };
    let mut archive = Archive::new(Vec::new());
    assert!(archive.append(&entry, &mut &b"123456789"[..]).is_err());
    for len in [9, 11] {
        let mut archive = Archive::new(Vec::new());
        let wrong = archive.append_with(&entry, |out, _| out.write_all(&vec![0; len]));
        assert!(wrong.is_err(), "{len}");
    }
}
