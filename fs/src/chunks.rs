//! Sources of stored chunks: local layer files, or a server with its caches.

pub(crate) mod bring;
pub mod hot;
pub(crate) mod hot_files;
pub(crate) mod landing;
mod local;
pub(crate) mod rebuild;
pub mod remote;
mod source;
pub(crate) mod update;

pub use self::source::{ChunkSource, OnAnswer, Pending, Ready, SourceError, Then, Unavailable};
