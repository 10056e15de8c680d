//! The layer format: reading and writing. No clock, no environment, no network. `docs/FORMAT.md` is
//! the specification.
//!
//! From the bottom: [`layout`] (positions), [`codec`] (bounded compression), [`index`] (the
//! validated tables), [`layer`] (a file), [`tree`] (the model and the merge rule), [`writer`]
//! (trees to layers), [`mod@flatten`] (a stack as one index).

pub mod check;
pub mod codec;
pub mod compact;
pub mod digest;
pub mod dump;
pub mod error;
pub mod flatten;
pub mod index;
pub mod layer;
pub mod layout;
pub mod limits;
pub mod name;
pub mod source;
mod sys;
pub mod tree;
pub mod tree_digest;
pub mod writeback;
pub mod writer;
pub mod x86;

pub use codec::{
    decode_chunk, decode_chunk_into, decode_chunk_start, decode_verified_chunk, forget_decoders,
    verify_chunk,
};
pub use digest::Digest;
pub use error::{ErrorKind, FormatError};
pub use flatten::{MergedIndex, flatten};
pub use index::{Child, Dirent, Extent, Index, Ino, Inode, LayerRef, ROOT};
pub use layer::{ContentDigests, Layer, Meta};
pub use layout::chunk::{Chunk, Codec, Source};
pub use layout::superblock::Superblock;
pub use name::Name;
pub use source::{ChunkSource, ContentReader, LayerSet};
pub use sys::roomy;
pub use tree::Tree;
pub use tree_digest::tree_digest;
pub use writer::{Base, Content, LayerInfo, LayerWriter, Options};
