//! Local copies of stored chunks: caches in memory and on disk, by digest, and the backup. Their
//! data is verified again.

pub mod backup;
pub mod dir;
pub mod disk;
pub mod memory;
