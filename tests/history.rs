//! The bakery's histories: published, raced for, killed, grafted, compacted, swept, verified.

mod compaction;
mod copies;
mod crash;
mod deltas;
mod grafts;
mod keys;
mod messages;
mod packs;
mod purges;
mod races;
mod s3;
mod scale;
mod sweeps;
mod updates;
mod verbs;
pub(crate) mod world;
