//! The network: requests to the servers of one system.
//!
//! From the bottom: [`address`], one [`exchange`] with one [`server`], the [`mirrors`], the
//! [`queue`] of requests, the [`worker`]s that process it, the [`fetcher`] over them; beside it the
//! verified [`records`] and the [`index_head`].

pub(crate) mod address;
mod backoff;
mod cut;
pub(crate) mod early_index;
pub(crate) mod error;
pub(crate) mod exchange;
pub(crate) mod fetcher;
pub(crate) mod hello;
pub(crate) mod index_head;
mod limiter;
pub(crate) mod lookup;
pub(crate) mod mirrors;
pub(crate) mod object;
mod pace;
pub(crate) mod queue;
mod range;
pub(crate) mod records;
mod redirect;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod worker;
