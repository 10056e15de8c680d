//! A root whose layers are on a server: fetched lazily, verified before use, kept where told.
//!
//! From the bottom: [`address`], one [`exchange`] with one [`server`], the [`mirrors`], the [`queue`] of
//! what is wanted, the [`worker`]s that get it, the [`fetcher`] over them; beside it the [`records`] that say
//! what may be believed; on top the [`source`] of chunks (who waits for some has them from [`bring`], and holds what has [`landing`]ed)
//! and the [`root`] that is mounted.

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
