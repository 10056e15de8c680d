//! Random trees of every kind of object, random edits, and baking them.

use std::path::Path;
use std::sync::Arc;

use layerfmt::tree::{Child, Directory, Kind, Metadata, Node, ROOT, Time, Tree, Xattrs};
use layerfmt::{Base, Content, Layer, LayerInfo, LayerWriter, Meta, Name, Options};
use proptest::prelude::*;

/// A tree whose files hold their bytes.
pub(crate) type Model = Tree<Vec<u8>>;

/// One edit of a tree; paths are indexes into a small set of names.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    Put {
        path: Vec<u8>,
        meta: u8,
        kind: NewKind,
    },
    Link {
        from: Vec<u8>,
        to: Vec<u8>,
    },
    Remove {
        path: Vec<u8>,
    },
    Chmod {
        path: Vec<u8>,
        meta: u8,
    },
    Rename {
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// Only in trees of changes.
    Whiteout {
        path: Vec<u8>,
    },
    Opaque {
        path: Vec<u8>,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum NewKind {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Char,
    Block,
    Fifo,
    Socket,
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => (any::<u8>(), 0usize..200).prop_map(|(b, n)| vec![b; n]),
        1 => (1usize..4).prop_map(|n| vec![0u8; n * 4096]),
        1 => (any::<u8>(), 1usize..3).prop_map(|(b, n)| vec![b | 1; n * 4096]),
        1 => prop::collection::vec(any::<u8>(), 0..6000),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0u8..4, 1..4)
}

fn kind() -> impl Strategy<Value = NewKind> {
    prop_oneof![
        4 => Just(NewKind::Directory),
        5 => content().prop_map(NewKind::File),
        2 => prop::collection::vec(1u8..255, 1..40).prop_map(NewKind::Symlink),
        1 => Just(NewKind::Char),
        1 => Just(NewKind::Block),
        1 => Just(NewKind::Fifo),
        1 => Just(NewKind::Socket),
    ]
}

pub(crate) fn edits(count: usize) -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        8 => (path(), any::<u8>(), kind()).prop_map(|(path, meta, kind)| Edit::Put { path, meta, kind }),
        2 => (path(), path()).prop_map(|(from, to)| Edit::Link { from, to }),
        2 => path().prop_map(|path| Edit::Remove { path }),
        2 => (path(), any::<u8>()).prop_map(|(path, meta)| Edit::Chmod { path, meta }),
        1 => (path(), path()).prop_map(|(from, to)| Edit::Rename { from, to }),
    ];
    prop::collection::vec(edit, 0..count)
}

/// Edits for a tree of changes: whiteouts and opaque marks as well.
pub(crate) fn changes(count: usize) -> impl Strategy<Value = Vec<Edit>> {
    let change = prop_oneof![
        6 => (path(), any::<u8>(), kind()).prop_map(|(path, meta, kind)| Edit::Put { path, meta, kind }),
        2 => (path(), path()).prop_map(|(from, to)| Edit::Link { from, to }),
        3 => path().prop_map(|path| Edit::Whiteout { path }),
        2 => path().prop_map(|path| Edit::Opaque { path }),
    ];
    prop::collection::vec(change, 0..count)
}

pub(crate) fn metadata(seed: u8) -> Metadata {
    let xattrs = match seed % 5 {
        0 => Some(Arc::new(Xattrs::from([
            (b"user.a".as_slice().into(), vec![seed; 3].into()),
            (
                b"security.capability".as_slice().into(),
                vec![1, 0, 0, 2].into(),
            ),
        ]))),
        _ => None,
    };
    Metadata {
        mode: [0o755, 0o644, 0o4755, 0o1777, 0o2700][seed as usize % 5],
        uid: u32::from(seed / 16) * 70_000,
        gid: u32::from(seed % 3),
        mtime: Time {
            sec: i64::from(seed) * 1_000_000 - 50_000_000,
            nsec: u32::from(seed) * 7,
        },
        xattrs,
    }
}

fn name(code: u8) -> Name {
    Name::new([b"a".as_slice(), b"b", b"long \xff name", b"z"][code as usize % 4]).unwrap()
}

/// The directory of the last component, created on the way if `make` is true.
fn parent(tree: &mut Model, path: &[u8], make: bool) -> Option<(u32, Name)> {
    let (last, dirs) = path.split_last()?;
    let mut dir = ROOT;
    for code in dirs {
        let name = name(*code);
        dir = match tree.child(dir, name.as_bytes()) {
            Some(Child::Node(id)) if tree.directory(id).is_some() => id,
            None if make => {
                let node = Node {
                    meta: metadata(1),
                    kind: Kind::Directory(Directory::default()),
                };
                tree.insert(dir, name, node).unwrap()
            }
            _ => return None,
        };
    }
    Some((dir, name(*last)))
}

fn is_dir_nonempty(tree: &Model, dir: u32, name: &Name) -> bool {
    match tree.child(dir, name.as_bytes()) {
        Some(Child::Node(id)) => tree.directory(id).is_some_and(|d| !d.entries.is_empty()),
        _ => false,
    }
}

pub(crate) fn edit(tree: &mut Model, edit: &Edit) {
    match edit {
        Edit::Put { path, meta, kind } => {
            let Some((dir, name)) = parent(tree, path, true) else {
                return;
            };
            if is_dir_nonempty(tree, dir, &name) {
                return;
            }
            let kind = match kind {
                NewKind::Directory => Kind::Directory(Directory::default()),
                NewKind::File(bytes) => Kind::File(bytes.clone()),
                NewKind::Symlink(target) => Kind::Symlink(target.clone().into()),
                NewKind::Char => Kind::Char(1, u32::from(*meta) + 1),
                NewKind::Block => Kind::Block(8, u32::from(*meta) << 12),
                NewKind::Fifo => Kind::Fifo,
                NewKind::Socket => Kind::Socket,
            };
            tree.insert(
                dir,
                name,
                Node {
                    meta: metadata(*meta),
                    kind,
                },
            )
            .unwrap();
        }
        Edit::Link { from, to } => {
            let Some((from_dir, from)) = parent(tree, from, false) else {
                return;
            };
            let Some(Child::Node(id)) = tree.child(from_dir, from.as_bytes()) else {
                return;
            };
            if tree.directory(id).is_some() {
                return;
            }
            let Some((dir, name)) = parent(tree, to, false) else {
                return;
            };
            if !is_dir_nonempty(tree, dir, &name) {
                tree.set(dir, name, Child::Node(id)).unwrap();
            }
        }
        Edit::Remove { path } => {
            let Some((dir, name)) = parent(tree, path, false) else {
                return;
            };
            tree.directory_mut(dir).unwrap().entries.remove(&name);
        }
        Edit::Chmod { path, meta } => {
            let Some((dir, name)) = parent(tree, path, false) else {
                return;
            };
            if let Some(Child::Node(id)) = tree.child(dir, name.as_bytes()) {
                tree.node_mut(id).unwrap().meta = metadata(*meta);
            }
        }
        Edit::Rename { from, to } => {
            if to.starts_with(from) {
                return;
            }
            let Some((from_dir, from)) = parent(tree, from, false) else {
                return;
            };
            let Some(child) = tree.child(from_dir, from.as_bytes()) else {
                return;
            };
            let Some((dir, name)) = parent(tree, to, false) else {
                return;
            };
            if is_dir_nonempty(tree, dir, &name) {
                return;
            }
            // Names are few: two paths may be one.
            let same = (from_dir, &from) == (dir, &name);
            if !same && !inside(tree, child, dir) {
                tree.directory_mut(from_dir).unwrap().entries.remove(&from);
                tree.set(dir, name, child).unwrap();
            }
        }
        Edit::Whiteout { path } => {
            let Some((dir, name)) = parent(tree, path, true) else {
                return;
            };
            if !is_dir_nonempty(tree, dir, &name) {
                tree.set(dir, name, Child::Whiteout).unwrap();
            }
        }
        Edit::Opaque { path } => {
            let Some((dir, name)) = parent(tree, path, true) else {
                return;
            };
            if let Some(Child::Node(id)) = tree.child(dir, name.as_bytes())
                && let Some(directory) = tree.directory_mut(id)
            {
                directory.opaque = true;
            }
        }
    }
}

/// True if directory `dir` is `child` or below it.
fn inside(tree: &Model, child: Child, dir: u32) -> bool {
    let Child::Node(id) = child else { return false };
    id == dir
        || tree
            .directory(id)
            .is_some_and(|d| d.entries.values().any(|c| inside(tree, *c, dir)))
}

pub(crate) fn model(edits: &[Edit]) -> Model {
    let mut tree = Tree::new(metadata(0));
    edits.iter().for_each(|step| edit(&mut tree, step));
    tree
}

/// The same tree with contents given to a writer.
pub(crate) fn contents(model: &Model, writer: &mut LayerWriter) -> Tree<Content> {
    let mut tree = Tree::new(model.node(ROOT).unwrap().meta.clone());
    tree.directory_mut(ROOT).unwrap().opaque = model.directory(ROOT).unwrap().opaque;
    let mut copied = std::collections::HashMap::from([(ROOT, ROOT)]);
    model
        .walk(|visit| {
            let (path, last) = match visit.path.iter().rposition(|&b| b == b'/') {
                Some(at) => (&visit.path[..at], &visit.path[at + 1..]),
                None => (&visit.path[..0], visit.path),
            };
            if last.is_empty() {
                return Ok::<(), std::convert::Infallible>(());
            }
            let dir = tree.resolve(path).unwrap();
            let child = visit.node.map_or(Child::Whiteout, |(id, node)| {
                Child::Node(*copied.entry(id).or_insert_with(|| {
                    let kind = match &node.kind {
                        Kind::File(bytes) => Kind::File(
                            writer
                                .add_file(
                                    bytes.len() as u64,
                                    &[(0, bytes.len() as u64)],
                                    &mut bytes.as_slice(),
                                )
                                .unwrap(),
                        ),
                        Kind::Directory(d) => Kind::Directory(Directory {
                            opaque: d.opaque,
                            ..Default::default()
                        }),
                        Kind::Symlink(target) => Kind::Symlink(target.clone()),
                        Kind::Char(a, b) => Kind::Char(*a, *b),
                        Kind::Block(a, b) => Kind::Block(*a, *b),
                        Kind::Fifo => Kind::Fifo,
                        Kind::Socket => Kind::Socket,
                    };
                    tree.add(Node {
                        meta: node.meta.clone(),
                        kind,
                    })
                    .unwrap()
                }))
            });
            tree.set(dir, Name::new(last).unwrap(), child).unwrap();
            Ok(())
        })
        .unwrap();
    tree
}

pub(crate) fn options(threads: usize) -> Options {
    Options {
        chunk_len: 16 << 10,
        large: None,
        threads,
        ..Options::level(3)
    }
}

/// Bakes `model` into a new file.
pub(crate) fn bake(
    model: &Model,
    base: Option<Base>,
    threads: usize,
    path: &Path,
) -> (Arc<Layer>, LayerInfo) {
    let mut writer = LayerWriter::create(path, options(threads), base).unwrap();
    let tree = contents(model, &mut writer);
    let info = writer.finish(tree, &Meta::default()).unwrap();
    let layer = Layer::open(path).unwrap();
    assert_eq!(layer.digest(), info.digest);
    (Arc::new(layer), info)
}
