//! A root whose layers are on a server: assembled from network, stores, chunks and prefetching.

pub(crate) mod control;
pub(crate) mod kept;
mod known_index;
pub mod open;
mod opened_index;
pub mod options;
mod revisions;
mod seen;
mod update;
mod values;
