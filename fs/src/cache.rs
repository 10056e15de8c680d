//! Local caches of stored chunks: in memory and on disk, by digest. Cached data is verified again.

pub mod dir;
pub mod disk;
pub mod memory;
