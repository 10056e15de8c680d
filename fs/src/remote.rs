//! A root with its layers on a server: fetched lazily, verified before use, cached as configured.
//!
//! From the bottom: [`address`], one [`exchange`] with one [`server`], the [`mirrors`], the
//! [`queue`] of requests, the [`worker`]s that process it, the [`fetcher`] over them; beside it the
//! verified [`records`]; on top the [`source`] of chunks (waiting requests use [`bring`], and
//! [`landing`] holds their data) and the [`root`] that is mounted.

pub mod address;
mod backoff;
mod bring;
mod cut;
pub mod error;
pub(crate) mod exchange;
pub mod fetcher;
mod index_head;
mod kept;
mod landing;
mod limiter;
mod lookup;
mod mirrors;
pub mod object;
pub mod options;
mod plain;
pub(crate) mod queue;
mod range;
pub mod records;
mod redirect;
pub mod root;
mod server;
pub mod source;
pub mod status;
pub(crate) mod worker;
