//! An early index against the whole one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::flatten::flatten_layers;
use crate::index::{DirentTarget, Ino, ROOT};
use crate::layer::Layer;
use crate::name::Name;
use crate::tree::{Child, Kind, Metadata, Node, Tree};
use crate::writer::{LayerWriter, Options};

/// A generator of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn name(numbers: &mut Numbers) -> Name {
    Name::new(format!("{:x}", numbers.below(1 << 20)).as_bytes()).unwrap()
}

/// A layer with `objects` objects of every kind, with hard links and attributes.
fn layer(seed: u64, objects: u32) -> Layer {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layer");
    let mut writer = LayerWriter::create(&path, Options::level(1), None).unwrap();
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
    let metadata = |numbers: &mut Numbers| Metadata {
        mode: 0o644,
        uid: numbers.below(3) as u32,
        xattrs: match numbers.below(4) {
            0 => Some(Arc::new(
                [(
                    b"user.x".as_slice().into(),
                    vec![numbers.below(3) as u8].into(),
                )]
                .into(),
            )),
            _ => None,
        },
        ..Metadata::default()
    };
    let mut tree = Tree::new(metadata(&mut numbers));
    let (mut dirs, mut files) = (vec![ROOT], Vec::new());
    for _ in 0..objects {
        let parent = dirs[numbers.below(dirs.len() as u64) as usize];
        let kind = match numbers.below(8) {
            0 | 1 => Kind::Directory(Default::default()),
            2 => Kind::Symlink(vec![b'a'; 1 + numbers.below(9) as usize].into()),
            3 => Kind::Fifo,
            4 if !files.is_empty() => {
                let file = files[numbers.below(files.len() as u64) as usize];
                tree.set(parent, name(&mut numbers), Child::Node(file))
                    .unwrap();
                continue;
            }
            _ => {
                let len = numbers.below(9000);
                let bytes: Vec<u8> = (0..len).map(|_| numbers.below(4) as u8 + 1).collect();
                let all = [(0, len)];
                let segments = if len == 0 { &[][..] } else { &all[..] };
                let content = writer.add_file(len, segments, &mut bytes.as_slice());
                Kind::File(content.unwrap())
            }
        };
        let (is_dir, is_file) = (
            matches!(kind, Kind::Directory(_)),
            matches!(kind, Kind::File(_)),
        );
        let meta = metadata(&mut numbers);
        let Ok(node) = tree.insert(parent, name(&mut numbers), Node { meta, kind }) else {
            continue;
        };
        if is_dir {
            dirs.push(node);
        }
        if is_file {
            files.push(node);
        }
    }
    writer.finish(tree, &Meta::default()).unwrap();
    Layer::open(&path).unwrap()
}

fn merged(seed: u64, objects: u32) -> Arc<Index> {
    flatten_layers([&layer(seed, objects)], false)
        .unwrap()
        .index
}

fn early(index: &Index, room: u32) -> Index {
    let rows = EarlyRows::within(index, None, room);
    let meta = Meta::with_early(index, &rows).unwrap().unwrap();
    let meta = Meta::decode(&meta.encode().unwrap()).unwrap();
    assert_eq!(meta.words().count(), 0);
    meta.early().unwrap().unwrap()
}

/// Compares all that can be read of `ino` without a wait.
fn compare(early: &Index, whole: &Index, ino: Ino) {
    assert_eq!(early.inode(ino), whole.inode(ino));
    assert!(early.xattrs(ino).eq(whole.xattrs(ino)));
    assert_eq!(early.parent(ino), whole.parent(ino));
    assert_eq!(early.entry_count(ino), whole.entry_count(ino));
    if !early.has(ino) {
        return;
    }
    let entries = |index: &Index| -> Vec<(Vec<u8>, DirentTarget)> {
        let entries = index.entries(ino, 0);
        entries
            .map(|entry| (entry.name.to_vec(), entry.child))
            .collect()
    };
    assert_eq!(entries(early), entries(whole));
    for (name, child) in entries(whole) {
        assert_eq!(
            early.lookup(ino, &name).map(|entry| entry.child),
            Some(child)
        );
        let DirentTarget::Inode(child) = child else {
            panic!("a whiteout")
        };
        assert!(early.shows(child));
    }
    assert!(early.lookup(ino, b"no such name").is_none());
    assert!(
        early
            .extents(ino, 0..u64::MAX)
            .eq(whole.extents(ino, 0..u64::MAX))
    );
    assert_eq!(early.symlink(ino), whole.symlink(ino));
}

/// docs/FORMAT.md 6.4: the rows have the same numbers and values as in INDEX.
#[test]
fn rows_of_an_early_index_are_those_of_the_whole() {
    let mut seen = BTreeSet::new();
    for seed in 0..30 {
        let whole = merged(seed, 40 + 20 * (seed as u32 % 5));
        for room in [0, 10, 40, 1000] {
            let early = early(&whole, room);
            assert!(early.has(ROOT) && early.shows(ROOT) && !early.is_whole());
            assert!(early.chunks().eq(whole.chunks()));
            assert!(early.layers().eq(whole.layers()));
            assert_eq!(early.counts(), whole.counts());
            let shown = (0..whole.inode_count()).filter(|ino| early.shows(*ino));
            let shown: Vec<Ino> = shown.collect();
            assert_eq!(shown.len(), early.early_count() as usize);
            for ino in &shown {
                compare(&early, &whole, *ino);
            }
            seen.insert(shown.len() as u32 == whole.inode_count());
            early.arrive(Arc::clone(&whole)).unwrap();
            assert!(early.is_whole());
            assert_eq!(early.raw(), whole.raw());
            for ino in 0..whole.inode_count() {
                assert!(early.has(ino));
                compare(&early, &whole, ino);
            }
        }
    }
    assert_eq!(seen.len(), 2, "some have all rows, some do not");
}

#[test]
fn other_rows_wait_for_the_whole_index() {
    let whole = merged(7, 150);
    let early = early(&whole, 10);
    let far = (0..whole.inode_count())
        .find(|ino| !early.shows(*ino))
        .unwrap();
    let (sender, heard) = std::sync::mpsc::channel();
    let wanted = sender.clone();
    early.when_wanted(Box::new(move || wanted.send("wanted").unwrap()));
    let here = early.clone();
    let waiting = std::thread::spawn(move || here.inode(far));
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok("wanted"));
    let then = sender.clone();
    early.when_whole(Box::new(move |is_whole| {
        then.send(if is_whole { "whole" } else { "in vain" })
            .unwrap();
    }));
    assert!(!waiting.is_finished());
    early.disappoint(false);
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok("in vain"));
    assert!(!waiting.is_finished() && !early.is_lost());
    early.when_whole(Box::new(move |is_whole| {
        sender
            .send(if is_whole { "whole" } else { "in vain" })
            .unwrap();
    }));
    early.arrive(Arc::clone(&whole)).unwrap();
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok("whole"));
    assert_eq!(waiting.join().unwrap(), whole.inode(far));
    assert!(early.await_whole());
}

/// A thread that cannot be answered ends with an error; it does not get a wrong value.
#[test]
fn if_the_whole_index_is_lost_all_waits_end() {
    let whole = merged(7, 150);
    let early = early(&whole, 10);
    let far = (0..whole.inode_count())
        .find(|ino| !early.shows(*ino))
        .unwrap();
    let here = early.clone();
    let waiting = std::thread::spawn(move || here.inode(far));
    let other = merged(8, 150);
    assert!(early.arrive(other).is_err());
    early.disappoint(true);
    assert!(waiting.join().is_err());
    assert!(early.is_lost() && !early.await_whole());
    assert_eq!(early.inode(ROOT), whole.inode(ROOT));
}

/// Files of the boot pack come before others.
#[test]
fn directories_with_contents_of_the_pack_come_first() {
    let (below, pack) = (layer(3, 120), layer(4, 12));
    let index = flatten_layers([&below, &pack], false).unwrap().index;
    let row = index
        .layers()
        .position(|layer| layer.digest == pack.digest());
    let source = crate::ChunkFile::Borrowed(row.unwrap() as u32);
    let is_packed = |ino: &Ino| {
        let mut extents = index.extents(*ino, 0..u64::MAX);
        extents.any(|extent| index.chunk(extent.chunk).unwrap().source == source)
    };
    let packed: Vec<Ino> = (0..index.inode_count()).filter(is_packed).collect();
    assert!(!packed.is_empty());
    let rows = EarlyRows::within(&index, Some(&pack.digest()), 120);
    let meta = Meta::with_early(&index, &rows).unwrap().unwrap();
    let early = meta.early().unwrap().unwrap();
    assert!(packed.iter().all(|ino| early.has(*ino)));
    assert!(early.early_count() < index.inode_count());
}

/// docs/FORMAT.md 6.4: a reader checks the rules within it when it arrives, and all values when the
/// INDEX is there.
#[test]
fn every_changed_byte_is_refused_at_once_or_when_the_whole_is_there() {
    let whole = merged(11, 60);
    let raw = EarlyRows::within(&whole, None, 30).encode(&whole);
    let decode = |raw: &[u8]| Index::early(&encode_small(raw).unwrap());
    assert!(decode(&raw).unwrap().arrive(Arc::clone(&whole)).is_ok());
    let (mut at_once, mut later) = (0, 0);
    for at in 0..raw.len() {
        for change in [1, 0x80, 0xff] {
            let mut wrong = raw.clone();
            wrong[at] ^= change;
            let Ok(early) = decode(&wrong) else {
                at_once += 1;
                continue;
            };
            later += 1;
            for ino in (0..early.inode_count().min(200)).filter(|ino| early.shows(*ino)) {
                let _ = (early.inode(ino), early.xattrs(ino).count());
                if early.has(ino) {
                    early
                        .entries(ino, 0)
                        .for_each(|entry| assert!(entry.name.len() < 256));
                    let _ = early.extents(ino, 0..u64::MAX).count();
                    let _ = early.symlink(ino).len();
                }
            }
            assert!(early.arrive(Arc::clone(&whole)).is_err(), "byte {at}");
        }
    }
    assert!(at_once > later, "{at_once} {later}");
    for len in 0..raw.len() {
        assert!(decode(&raw[..len]).is_err(), "{len}");
    }
    assert!(decode(&[&raw[..], &[0]].concat()).is_err());
    assert!(Index::early(b"no frame").is_err());
    let meta = |value: &str| Meta {
        labels: vec![(LABEL.to_owned(), value.to_owned())],
        ..Meta::default()
    };
    assert!(meta("?").early().is_err());
    assert!(Meta::default().early().unwrap().is_none());
}

fn golden() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v1/early.meta")
}

/// The early index of a frozen file is still read. `Meta::with_early` made it of `small.layer`,
/// with the rows of `EarlyRows::within(&whole, None, 0)`.
#[test]
fn version_1_still_reads() {
    let meta = Meta::decode(&std::fs::read(golden()).unwrap()).unwrap();
    let early = meta.early().unwrap().unwrap();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v1/small.layer");
    let small = Layer::open(&path).unwrap();
    let whole = flatten_layers([&small], false).unwrap().index;
    assert!(early.has(ROOT));
    early.arrive(whole).unwrap();
}
