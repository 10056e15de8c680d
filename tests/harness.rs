//! What many tests need: the two programs, layers, mounts. Everything is undone on drop.

pub(crate) mod mount;
pub(crate) mod programs;
pub(crate) mod snapshot;
