//! The layer format: reading and writing. No clock, no environment, no network. `docs/FORMAT.md` is
//! the specification.
//!
//! From the bottom: [`layout`] (positions), [`codec`] (bounded compression), [`index`] (the
//! validated tables), [`layer`] (a file), [`tree`] (the model and the merge rule), [`writer`]
//! (trees to layers), [`mod@flatten`] (a stack as one index), [`update`] (from one index to another).
//!
//! Writing a layer with one file, and reading the file back:
//!
//! ```
//! use std::io::Read as _;
//! use std::sync::Arc;
//!
//! use layerfmt::source::{ContentReader, LayerSet, OwnAndBelow};
//! use layerfmt::tree::{Kind, Metadata, Node, ROOT};
//! use layerfmt::{DirentTarget, Layer, LayerWriter, Meta, Name, Options, Tree};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("hello.layer");
//!
//! let text = b"hello, layer\n";
//! let mut writer = LayerWriter::create(&path, Options::bake(), None)?;
//! let content = writer.add_file(13, &[(0, 13)], &mut text.as_slice())?;
//! let metadata = |mode| Metadata { mode, ..Metadata::default() };
//! let mut tree = Tree::new(metadata(0o755));
//! let file = Node { meta: metadata(0o644), kind: Kind::File(content) };
//! tree.insert(ROOT, Name::new(b"hello")?, file)?;
//! writer.finish(tree, &Meta::default())?;
//!
//! let layer = Arc::new(Layer::open(&path)?);
//! let entry = layer.index().lookup(layerfmt::ROOT, b"hello").ok_or("no entry")?;
//! let DirentTarget::Inode(ino) = entry.child else { panic!("a whiteout") };
//! let source = OwnAndBelow::new(layer.clone(), LayerSet::default());
//! let mut read = Vec::new();
//! ContentReader::new(layer.index(), &source).stream(ino).read_to_end(&mut read)?;
//! assert_eq!(read, text);
//! # Ok(())
//! # }
//! ```

pub mod check;
pub mod codec;
pub mod compact;
pub mod digest;
pub mod dump;
pub mod error;
mod file;
pub mod flatten;
pub mod index;
pub mod layer;
pub mod layout;
pub mod limits;
pub mod name;
pub mod source;
mod sys;
mod time;
pub mod tree;
pub mod tree_digest;
pub mod update;
pub mod writeback;
pub mod writer;
pub mod x86;

pub use codec::{
    decode_chunk, decode_chunk_early, decode_chunk_into, decode_chunk_start, decode_verified_chunk,
    decode_verified_chunk_early, forget_decoders,
};
pub use digest::Digest;
pub use error::{ErrorKind, FormatError};
pub use flatten::{MergedIndex, flatten};
pub use index::{Dirent, DirentTarget, Extent, Index, Ino, Inode, LayerRef, ROOT};
pub use layer::{ContentDigests, Layer, Meta};
pub use layout::chunk::{Chunk, ChunkFile, Codec};
pub use layout::superblock::Superblock;
pub use name::Name;
pub use source::{ContentReader, LayerSet, StoredChunks};
pub use sys::buffer_for;
pub use tree::Tree;
pub use tree_digest::tree_digest;
pub use writer::{Base, Content, LargeFiles, LayerInfo, LayerWriter, Options};
