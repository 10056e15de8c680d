//! Whole-house tests.

mod architecture;
mod history;
mod ingest;
mod kitchen;
mod serve;
