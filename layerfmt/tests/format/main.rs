//! The laws of the format on random trees, its golden files, and damaged files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "tests may panic"
)]

mod arbitrary;
mod chunks;
mod damage;
mod golden;
mod kernel;
mod laws;
#[cfg(feature = "remake")]
mod recipes;
#[path = "../../../tests/scratch.rs"]
mod scratch;
mod spec;
mod update;
