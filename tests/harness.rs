//! Shared parts of many tests: the two programs, layers, mounts. All are removed on drop.

pub(crate) mod mount;
pub(crate) mod programs;
