//! Trees made from a seed, and layers of them: the same every time, on every machine.

use std::io;
use std::path::{Path, PathBuf};

use layerfmt::layer::Meta;
use layerfmt::tree::{Child, Kind, Metadata, Node, NodeId, ROOT, Time};
use layerfmt::{Content, Layer, LayerInfo, LayerWriter, Name, Options, Tree};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Errors while a fixture is made.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The size of a made tree.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Directories below the root, in two levels.
    pub directories: u32,
    /// Files in each directory.
    pub files: u32,
    /// Bytes of each file; 0 = none.
    pub file_len: usize,
    /// The seed of names and contents; layers of one stack have different seeds.
    pub seed: u64,
}

/// Metadata of everything that is made: one owner, one time.
#[must_use]
pub fn metadata(mode: u16) -> Metadata {
    Metadata {
        mode,
        uid: 0,
        gid: 0,
        mtime: Time {
            sec: 1_700_000_000,
            nsec: 0,
        },
        xattrs: Default::default(),
    }
}

/// `len` bytes that compress about as text and code do (a third): words of a small vocabulary.
#[must_use]
pub fn bytes(random: &mut SmallRng, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 16);
    let vocabulary: Vec<[u8; 5]> = (0..512).map(|_| random.random()).collect();
    while out.len() < len {
        let word = vocabulary.get(random.random_range(0..vocabulary.len()));
        out.extend_from_slice(word.map_or(&[0][..], |word| word));
        out.push(random.random_range(b' '..b'0'));
    }
    out.truncate(len);
    out
}

/// A tree of the given shape whose contents are written by `file`.
///
/// # Errors
/// Those of `file`, and a tree larger than an index can be.
pub fn tree<C>(
    shape: Shape,
    mut file: impl FnMut(Vec<u8>) -> Result<C, Failure>,
) -> Result<Tree<C>, Failure> {
    let mut random = SmallRng::seed_from_u64(shape.seed);
    let mut tree = Tree::new(metadata(0o755));
    let mut parent = ROOT;
    for directory in 0..shape.directories {
        if directory % 32 == 0 {
            parent = folder(&mut tree, ROOT, &format!("part-{:04}", directory / 32))?;
        }
        let here = folder(&mut tree, parent, &format!("directory-{directory:05}"))?;
        for number in 0..shape.files {
            let content = file(bytes(&mut random, shape.file_len))?;
            let node = Node {
                meta: metadata(0o644),
                kind: Kind::File(content),
            };
            let stem: u32 = random.random_range(0..1 << 20);
            tree.insert(
                here,
                Name::new(format!("lib{stem:05x}-{number}.so").as_bytes())?,
                node,
            )?;
        }
    }
    Ok(tree)
}

/// The directory `name` in `parent`, made if it is not there.
///
/// # Errors
/// A name that is none, or a tree larger than an index can be.
pub fn folder<C>(tree: &mut Tree<C>, parent: NodeId, name: &str) -> Result<NodeId, Failure> {
    let name = Name::new(name.as_bytes())?;
    if let Some(Child::Node(node)) = tree.child(parent, name.as_bytes()) {
        return Ok(node);
    }
    let node = Node {
        meta: metadata(0o755),
        kind: Kind::Directory(Default::default()),
    };
    Ok(tree.insert(parent, name, node)?)
}

/// Writes a layer of the given shape to `path`.
///
/// # Errors
/// The disk's.
pub fn layer(path: &Path, shape: Shape) -> Result<LayerInfo, Failure> {
    let mut writer = LayerWriter::create(path, Options::level(3), None)?;
    let tree = tree(shape, |content| add(&mut writer, &content))?;
    Ok(writer.finish(tree, &Meta::default())?)
}

/// Puts one content into a writer.
///
/// # Errors
/// The disk's.
pub fn add(writer: &mut LayerWriter, content: &[u8]) -> Result<Content, Failure> {
    let len = content.len() as u64;
    let segments: &[(u64, u64)] = if len == 0 { &[] } else { &[(0, len)] };
    Ok(writer.add_file(len, segments, &mut io::Cursor::new(content))?)
}

/// A stack of `count` layers in `directory`, bottom first, `shape` each with its own seed.
///
/// # Errors
/// The disk's.
pub fn stack(directory: &Path, count: u32, shape: Shape) -> Result<Vec<PathBuf>, Failure> {
    let one = |number: u32| {
        let path = directory.join(format!("{number}.layer"));
        layer(
            &path,
            Shape {
                seed: shape.seed + u64::from(number),
                ..shape
            },
        )?;
        Ok(path)
    };
    (0..count).map(one).collect()
}

/// Opens the layers of a stack.
///
/// # Errors
/// The disk's, or a damaged layer.
pub fn open(paths: &[PathBuf]) -> Result<Vec<Layer>, Failure> {
    paths.iter().map(|path| Ok(Layer::open(path)?)).collect()
}
