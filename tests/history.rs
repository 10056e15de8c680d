//! The bakery's histories: published, raced for, killed, grafted, compacted, swept, verified.

mod compaction;
mod crash;
mod grafts;
mod keys;
mod packs;
mod races;
mod s3;
mod scale;
mod sweeps;
pub(crate) mod world;
