//! Whole-house tests.

mod architecture;
mod crash;
mod harness;
mod history;
mod ingest;
mod kitchen;
mod model;
mod remote;
mod semantics;
mod serve;
