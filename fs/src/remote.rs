//! A root whose layers are on a server: fetched lazily, verified before use, kept where told.

pub mod address;
mod backoff;
mod cut;
pub mod error;
mod exchange;
pub mod fetcher;
mod limiter;
mod mirrors;
pub mod queue;
mod range;
mod server;
pub mod status;
mod worker;
