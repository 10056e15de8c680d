//! The protocol of layerfs: all messages and records that client and server share.
//!
//! Both sides must read the same bytes in the same way, so each record, request and language they
//! share has one implementation here, above [`layerfmt`] (the layers themselves). This crate has no
//! I/O, no clock and no environment. `docs/PROTOCOL.md`, `docs/HTTP.md` and `docs/PUSH.md` are the
//! specifications.
//!
//! Records: [`manifest`] (manifests, heads and keysets), [`trust`] (signatures and the chain from
//! the root keys to a manifest). Messages: [`push`], [`trace`], [`boot_report`]. Shared languages:
//! [`exclude`], [`secrets`], [`pax`].

pub mod boot_report;
pub mod exclude;
pub mod manifest;
mod pattern;
pub mod pax;
pub mod push;
pub mod secrets;
pub mod trace;
pub mod trust;
