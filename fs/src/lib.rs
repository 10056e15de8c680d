//! The mount: one FUSE mount of many layers and a writable upper.
//!
//! Each module imports only modules that stand after it in this list:
//!
//! - the command line: [`cli`], [`commands`], [`push`];
//! - a root on a server: [`root`] assembles, [`prefetch`] reads ahead;
//! - the mount: [`fuse`] translates, [`status`] reports, [`filesystem`] decides;
//! - the stack: [`stack`], [`lower`], [`control`], [`chunks`], [`store`], [`net`]; the upper: [`upper`];
//! - the small parts: [`trace`], [`names`], [`options`], [`metrics`], [`mount_table`], [`buffers`],
//!   [`systemd`], [`hardware`];
//! - the system calls: [`sys`].

pub mod buffers;
pub mod chunks;
pub mod cli;
pub mod commands;
pub mod control;
pub mod filesystem;
pub mod fuse;
pub mod hardware;
pub mod lower;
pub mod metrics;
pub mod mount_table;
pub mod names;
pub mod net;
pub mod options;
pub mod prefetch;
pub mod push;
pub mod root;
pub mod stack;
pub mod status;
pub mod store;
pub mod sys;
pub mod systemd;
pub mod trace;
pub mod upper;
