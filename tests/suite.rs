//! Integration tests of all crates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "a test says what is wrong by failing"
)]

mod architecture;
mod archives;
mod crash;
mod harness;
mod history;
mod ingest;
mod kernel;
mod model;
mod remote;
mod scratch;
mod semantics;
mod serve;
mod session;
mod speed;
mod test_bakery;

#[path = "session/mounted.rs"]
mod transport;
