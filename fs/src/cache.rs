//! Stored chunks kept near: in memory, on disk, by digest. Nothing read back is trusted.

pub mod dir;
pub mod disk;
pub mod memory;
