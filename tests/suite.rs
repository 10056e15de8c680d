//! Whole-house tests.

mod architecture;
mod crash;
mod harness;
mod history;
mod ingest;
mod kitchen;
mod model;
mod semantics;
mod serve;
