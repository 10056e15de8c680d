//! Local copies of stored chunks: caches in memory and on disk, by digest, and the backup. Their
//! data is verified again.

pub(crate) mod backup;
pub(crate) mod dir;
pub(crate) mod disk;
pub(crate) mod memory;
