//! The mount: one FUSE mount of many layers and a writable upper.
//!
//! A request falls straight down: each module imports only what is named below it.

pub mod backup;
pub mod cache;
pub mod fetch;
pub mod prefetch;
pub mod remote;
pub mod trace;
