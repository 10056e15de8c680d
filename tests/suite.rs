//! Whole-house tests.

mod architecture;
mod ingest;
mod kitchen;
mod serve;
mod history;
