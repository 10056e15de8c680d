//! The protocol of layerfs: all messages and records that client and server share.
//!
//! Both sides must read the same bytes in the same way, so each record, request and language they
//! share has one implementation here, above [`layerfmt`] (the layers themselves). This crate has no
//! I/O, no clock and no environment. `docs/PROTOCOL.md`, `docs/HTTP.md` and `docs/PUSH.md` are the
//! specifications.
//!
//! Records: [`manifest`] (manifests, heads and keysets), [`trust`] (signatures and the chain from
//! the root keys to a manifest). Names: [`paths`] (every store path and URL). Messages: [`batch`],
//! [`push`], [`trace`], [`boot_report`], [`counts`], [`hello`] (of the machines that [`machine`]
//! names, whose keys are in
//! [`machine_key`]; [`proof`] proves them). Bounds: [`limits`]. Shared languages: [`exclude`], [`secrets`], [`tar`].

pub mod batch;
pub mod boot_report;
pub mod counts;
pub mod exclude;
pub mod hello;
pub mod limits;
pub mod machine;
pub mod machine_key;
pub mod manifest;
pub mod paths;
mod pattern;
pub mod proof;
pub mod push;
pub mod secrets;
pub mod tar;
pub mod trace;
pub mod trust;
