//! Frozen files of format version 1. They are never regenerated: a reader that cannot read them has
//! broken existing machines.

use std::path::PathBuf;
use std::sync::Arc;

use layerfmt::check::check;
use layerfmt::dump::dump;
use layerfmt::source::LayerSet;
use layerfmt::tree::{Child, Kind, Metadata, Node, ROOT, Time};
use layerfmt::{Layer, Name};

use crate::arbitrary::{Model, metadata};

pub(crate) fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/v1")
        .join(name)
}

/// One object of every kind, a hard link, a hole, attributes, a whiteout and an opaque directory.
pub(crate) fn small_tree() -> Model {
    let mut tree = Model::new(metadata(1));
    let name = |text: &str| Name::new(text.as_bytes()).unwrap();
    let mut put = |dir, text: &str, seed, kind| {
        tree.insert(
            dir,
            name(text),
            Node {
                meta: metadata(seed),
                kind,
            },
        )
        .unwrap()
    };
    let etc = put(ROOT, "etc", 10, Kind::Directory(Default::default()));
    let hello = put(etc, "hello", 6, Kind::File(b"hello, layer\n".repeat(20)));
    let mut sparse = vec![0u8; 20_000];
    sparse[9000] = 7;
    put(etc, "sparse", 11, Kind::File(sparse));
    put(etc, "empty", 12, Kind::File(Vec::new()));
    put(
        ROOT,
        "link",
        13,
        Kind::Symlink(b"etc/hello".as_slice().into()),
    );
    put(ROOT, "null", 14, Kind::Char(1, 3));
    put(ROOT, "disk", 16, Kind::Block(8, 1));
    put(ROOT, "pipe", 17, Kind::Fifo);
    put(ROOT, "sock", 18, Kind::Socket);
    let hidden = put(ROOT, "hides", 19, Kind::Directory(Default::default()));
    tree.directory_mut(hidden).unwrap().opaque = true;
    tree.set(ROOT, name("hello2"), Child::Node(hello)).unwrap();
    tree.set(etc, name("gone"), Child::Whiteout).unwrap();
    tree
}

/// The worked example of `docs/FORMAT.md` §17: a root with one file.
pub(crate) fn smallest_tree() -> Model {
    let mut tree = Model::new(Metadata {
        mode: 0o755,
        ..Metadata::default()
    });
    let meta = Metadata {
        mode: 0o644,
        mtime: Time { sec: 1, nsec: 0 },
        ..Metadata::default()
    };
    let node = Node {
        meta,
        kind: Kind::File(b"hi\n".to_vec()),
    };
    tree.insert(ROOT, Name::new(b"a").unwrap(), node).unwrap();
    tree
}

#[test]
fn version_1_still_reads() {
    let layer = Arc::new(Layer::open(&testdata("small.layer")).unwrap());
    let want = std::fs::read_to_string(testdata("small.dump")).unwrap();
    assert_eq!(dump(layer.index(), layer.content().unwrap().as_ref()), want);
    let report = check(&layer, &LayerSet::default(), |_| ()).unwrap();
    let digests = std::fs::read_to_string(testdata("small.digests")).unwrap();
    let have = format!(
        "layer {}\ntree {}\n",
        layer.digest(),
        report.tree_digest.unwrap()
    );
    assert_eq!(have, digests);
}

/// The writer may change (another zstd), the tree it writes may not.
#[test]
fn todays_writer_writes_the_same_tree() {
    let dir = tempfile::tempdir().unwrap();
    let (layer, _) = crate::arbitrary::bake(&small_tree(), None, 1, &dir.path().join("s"));
    let text = dump(layer.index(), layer.content().unwrap().as_ref());
    if let Ok(dir) = std::env::var("GOLDEN_OUT") {
        // Made the files in testdata/v1, once: GOLDEN_OUT=DIR cargo test.
        let dir = PathBuf::from(dir);
        let report = check(&layer, &LayerSet::default(), |_| ()).unwrap();
        let digests = format!(
            "layer {}\ntree {}\n",
            layer.digest(),
            report.tree_digest.unwrap()
        );
        let out = crate::arbitrary::bake(&small_tree(), None, 1, &dir.join("small.layer"));
        assert_eq!(out.0.digest(), layer.digest());
        crate::arbitrary::bake(&smallest_tree(), None, 1, &dir.join("smallest.layer"));
        std::fs::write(dir.join("small.dump"), &text).unwrap();
        std::fs::write(dir.join("small.digests"), digests).unwrap();
    }
    assert_eq!(
        text,
        std::fs::read_to_string(testdata("small.dump")).unwrap()
    );
}
