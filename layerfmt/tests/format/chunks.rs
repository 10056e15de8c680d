//! The chunks that a bake cuts (`docs/FORMAT.md` §9.1).

use layerfmt::tree::{Kind, Metadata, Node};
use std::sync::Arc;

use layerfmt::flatten::flatten_layers;
use layerfmt::update::stored_again;
use layerfmt::{
    ContentReader, Digest, DirentTarget, Layer, LayerSet, LayerWriter, Meta, Name, Options, ROOT,
    Tree,
};

const SMALLEST_LARGE: u64 = 4 << 20;

/// Compressible bytes that do not repeat.
fn text(len: u64) -> Vec<u8> {
    let lines = (0u64..).flat_map(|line| format!("line {line}\n").into_bytes());
    lines.take(usize::try_from(len).unwrap()).collect()
}

/// A layer with one file of `len` bytes, written with `options`.
fn layer(len: u64, options: Options) -> Layer {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layer");
    let mut writer = LayerWriter::create(&path, options, None).unwrap();
    let content = writer
        .add_file(len, &[(0, len)], &mut text(len).as_slice())
        .unwrap();
    let mut tree = Tree::new(Metadata::default());
    let node = Node {
        meta: Metadata::default(),
        kind: Kind::File(content),
    };
    tree.insert(ROOT, Name::new(b"file").unwrap(), node)
        .unwrap();
    writer.finish(tree, &Meta::default()).unwrap();
    Layer::open(&path).unwrap()
}

/// The raw lengths of the chunks of a file of `len` bytes.
fn raw_lens(len: u64, options: Options) -> Vec<u32> {
    let layer = layer(len, options);
    let index = layer.index();
    let DirentTarget::Inode(file) = index.lookup(ROOT, b"file").unwrap().child else {
        panic!("a whiteout");
    };
    index
        .extents(file, 0..u64::MAX)
        .map(|extent| index.chunk(extent.chunk).unwrap().raw_len)
        .collect()
}

/// A reader with the raw bytes of a chunk makes its stored bytes again, whatever the length of its file.
#[test]
fn chunks_of_a_bake_are_stored_again() {
    for len in [300_000, SMALLEST_LARGE + 70_000] {
        let layer = Arc::new(layer(len, Options::bake()));
        let index = flatten_layers([&*layer], false).unwrap().index;
        let layers = LayerSet::new([Arc::clone(&layer)]);
        let mut reader = ContentReader::new(&index, &layers);
        for (row, chunk) in index.chunks().enumerate() {
            let raw = reader.chunk(row as u32).unwrap().to_vec();
            let stored = stored_again(&chunk, &raw).unwrap();
            assert_eq!(Digest::of(&stored), chunk.digest);
        }
    }
}

/// "256 KiB at bake, 128 KiB in files of 4 MiB or more": of files in memory and of streamed files.
#[test]
fn large_files_have_shorter_chunks() {
    let smaller = raw_lens(SMALLEST_LARGE - 1, Options::level(1));
    assert_eq!(smaller.len(), 16);
    assert_eq!(smaller.first(), Some(&(256 << 10)));
    for len in [SMALLEST_LARGE, SMALLEST_LARGE + 1, 9 << 20] {
        let mut lens = raw_lens(len, Options::level(1));
        assert_eq!(lens.len() as u64, len.div_ceil(128 << 10));
        lens.pop();
        assert!(lens.iter().all(|len| *len == 128 << 10));
    }
}

/// "1 MiB at recompression": of large files too.
#[test]
fn recompression_has_the_longest_chunks() {
    let options = Options {
        effort: Options::level(1).effort,
        ..Options::compact()
    };
    assert_eq!(raw_lens(SMALLEST_LARGE, options), [1 << 20; 4]);
}
