//! A root with its layers on a server: assembled of network, stores, chunks and prefetching.

pub(crate) mod control;
pub(crate) mod kept;
pub mod open;
pub mod options;
mod update;
mod values;
