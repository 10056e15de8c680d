//! The mount: one FUSE mount of many layers and a writable upper.
//!
//! A request falls straight down: each module imports only what is named below it.
//!
//! [`fuse`] translates → [`filesystem`] decides → [`upper`] and [`lower`] → [`fetch`] → [`sys`].

pub mod backup;
pub mod cache;
pub mod cli;
pub mod commands;
pub mod fetch;
pub mod filesystem;
pub mod fuse;
pub mod lower;
pub mod metrics;
pub mod mount_table;
pub mod names;
pub mod options;
pub mod prefetch;
pub mod push;
pub mod remote;
pub mod spare;
pub mod stack;
pub mod status;
pub mod sys;
pub mod systemd;
pub mod trace;
pub mod upper;
