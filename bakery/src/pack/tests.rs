use std::collections::BTreeMap;

use layerfmt::source::LayerSet;
use layerfmt::tree::{Kind, Node};
use layerfmt::{DirentTarget, Name};
use wire::trace::{BootTrace, Touch};

use super::*;

/// Files of unlike sizes, one of them sparse, one twice; returns the stack and the contents by inode.
fn stack(dir: &Path) -> (MergedIndex, LayerSet, BTreeMap<Ino, Vec<u8>>) {
    let mut contents: Vec<Vec<u8>> = (0..40u32)
        .map(|i| {
            let len = (i * i * 397 + i * 11) as usize;
            (0..len)
                .map(|at| (at as u32 / 3 + i * 7 + (at as u32 & 0xff) * i) as u8)
                .collect()
        })
        .collect();
    let mut sparse = contents[39].clone();
    sparse[8192..200_000].fill(0);
    contents.push(sparse);
    contents.push(contents[30].clone());
    let path = dir.join("base.layer");
    let mut writer = LayerWriter::create(
        &path,
        Options {
            effort: Effort::level(3),
            ..Options::bake()
        },
        None,
    )
    .unwrap();
    let mut tree = Tree::new(Metadata::default());
    for (i, content) in contents.iter().enumerate() {
        let segments = [(0, content.len() as u64)];
        let segments = if content.is_empty() {
            &[][..]
        } else {
            &segments[..]
        };
        let file = writer
            .add_file(content.len() as u64, segments, &mut content.as_slice())
            .unwrap();
        let node = tree
            .add(Node {
                meta: Metadata::default(),
                kind: Kind::File(file),
            })
            .unwrap();
        let name = Name::new(format!("file{i:03}").as_bytes()).unwrap();
        tree.set(
            layerfmt::tree::ROOT,
            name,
            layerfmt::tree::Child::Node(node),
        )
        .unwrap();
    }
    writer.finish(tree, &Meta::default()).unwrap();
    let layer = Arc::new(Layer::open(&path).unwrap());
    let merged = layerfmt::flatten::flatten_layers([layer.as_ref()], true).unwrap();
    let by_ino = contents
        .into_iter()
        .enumerate()
        .map(|(i, content)| {
            let entry = merged
                .index
                .lookup(0, format!("file{i:03}").as_bytes())
                .unwrap();
            let DirentTarget::Inode(ino) = entry.child else {
                panic!("a whiteout")
            };
            (ino, content)
        })
        .collect();
    (merged, LayerSet::new([layer]), by_ino)
}

fn read(index: &Index, source: &LayerSet, ino: Ino, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut reader = ContentReader::new(index, source);
    reader
        .runs(ino, |offset, bytes| {
            out[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
        .unwrap();
    out
}

#[test]
fn a_packed_index_shows_the_same_bytes_and_hot_pages_come_from_the_pack_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, layers, contents) = stack(dir.path());
    let tree = plain.tree_digest().unwrap();
    let touches: Vec<Touch> = contents
        .iter()
        .rev()
        .filter(|(_, content)| content.len() > 20_000)
        .flat_map(|(ino, content)| {
            let last = (content.len() as u32).div_ceil(4096) - 1;
            [
                Touch {
                    ino: *ino,
                    page: 3,
                    count: 2,
                },
                Touch {
                    ino: *ino,
                    page: last,
                    count: 1,
                },
            ]
        })
        .collect();
    let trace = BootTrace {
        tree,
        touches: touches.clone(),
    };
    let hot = merge(&[trace], tree, &plain.index, 50);
    assert_eq!((hot.traces, hot.refused), (1, 0));
    let path = dir.path().join("pack.layer");
    let packed = build(&plain, &layers, &hot, PageOrigin::Traces, &path).unwrap();
    assert_eq!(
        packed.index.tree_digest(),
        Some(tree),
        "a pack must not change the tree"
    );
    let pack = Arc::new(Layer::open(&path).unwrap());
    assert_eq!(pack.digest(), packed.pack.digest);
    let base = plain.index.layer(0).unwrap().digest;
    let mut both = LayerSet::new([Arc::clone(&pack)]);
    both.add(layers.get(&base).unwrap());
    for (ino, content) in &contents {
        assert_eq!(
            &read(&packed.index.index, &both, *ino, content.len()),
            content,
            "inode {ino}"
        );
    }
    for touch in &touches {
        let start = u64::from(touch.page) * PAGE_LEN;
        let end = start + u64::from(touch.count) * PAGE_LEN;
        for extent in packed.index.index.extents(touch.ino, start..end) {
            let chunk = packed.index.index.chunk(extent.chunk).unwrap();
            let ChunkFile::Borrowed(row) = chunk.source else {
                panic!("an own chunk")
            };
            assert_eq!(packed.index.index.layer(row).unwrap().digest, pack.digest());
        }
    }
    // The same traces make the same pack, byte for byte.
    let again = dir.path().join("again.layer");
    build(&plain, &layers, &hot, PageOrigin::Traces, &again).unwrap();
    assert_eq!(
        std::fs::read(&path).unwrap(),
        std::fs::read(&again).unwrap()
    );
}

#[test]
fn traces_are_merged_by_share_and_mean_position_and_nonsense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, _, contents) = stack(dir.path());
    let tree = plain.tree_digest().unwrap();
    let (&large, content) = contents
        .iter()
        .max_by_key(|(_, content)| content.len())
        .unwrap();
    let pages = content.len() as u32 / 4096;
    let touch = |page| Touch {
        ino: large,
        page,
        count: 1,
    };
    let boot = |pages: &[u32]| BootTrace {
        tree,
        touches: pages.iter().map(|page| touch(*page)).collect(),
    };
    let nonsense = [
        BootTrace {
            tree: Digest::of(b"another"),
            touches: vec![touch(0)],
        },
        BootTrace {
            tree,
            touches: vec![Touch {
                ino: u32::MAX,
                page: 0,
                count: 1,
            }],
        },
        BootTrace {
            tree,
            touches: vec![Touch {
                ino: 0,
                page: 0,
                count: 1,
            }],
        },
        boot(&[pages + 2]),
        BootTrace {
            tree,
            touches: vec![Touch {
                ino: large,
                page: 1,
                count: u32::MAX - 1,
            }],
        },
    ];
    let good = [
        boot(&[5, 1, 2]),
        boot(&[5, 2, 1]),
        boot(&[5, 2, 9, 9, 1]),
        boot(&[5, 2]),
    ];
    let all: Vec<BootTrace> = good.iter().chain(&nonsense).cloned().collect();
    let merged = merge(&all, tree, &plain.index, 50);
    assert_eq!(merged.pages, [1, 2, 5].map(|page| (large, page)));
    assert_eq!((merged.traces, merged.refused), (4, 5));
    assert!(merge(&nonsense, tree, &plain.index, 50).pages.is_empty());
    let nothing = build(
        &plain,
        &LayerSet::default(),
        &MergedTraces::default(),
        PageOrigin::Traces,
        &dir.path().join("p"),
    );
    assert!(matches!(nothing, Err(PackError::Nothing)));
}

#[test]
fn files_come_in_the_order_of_first_touch_with_all_their_pages() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, _, contents) = stack(dir.path());
    let tree = plain.tree_digest().unwrap();
    let mut sizes: Vec<(usize, Ino)> = contents.iter().map(|(ino, c)| (c.len(), *ino)).collect();
    sizes.sort_unstable();
    let [.., (_, first), (_, second)] = sizes[..] else {
        panic!("two files")
    };
    let touches = [
        (second, 9),
        (first, 0),
        (second, 2),
        (second, 3),
        (first, 4),
    ];
    let touches = touches.map(|(ino, page)| Touch {
        ino,
        page,
        count: 1,
    });
    let boot = BootTrace {
        tree,
        touches: touches.to_vec(),
    };
    let merged = merge(&[boot], tree, &plain.index, 50);
    let expected = [
        (second, 2),
        (second, 3),
        (second, 9),
        (first, 0),
        (first, 4),
    ];
    assert_eq!(merged.pages, expected);
}
