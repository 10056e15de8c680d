//! The mount: one FUSE mount of many layers and a writable upper.
//!
//! Each module imports only modules that stand after it in this list:
//!
//! - the command line: [`cli`], [`commands`], [`push`];
//! - a root on a server: [`root`] assembles, [`prefetch`] reads ahead;
//! - the mount: [`fuse`] translates, [`status`] reports, [`switch`] exchanges revisions, [`filesystem`] decides;
//! - the stack: [`stack`], [`revisions`], [`lower`], [`control`], [`chunks`], [`store`], [`net`]; the upper: [`upper`];
//! - the small parts: [`error`], [`trace`], [`names`], [`options`], [`limits`], [`metrics`], [`mount_table`],
//!   [`buffers`], [`systemd`], [`hardware`], [`secrets`];
//! - the system calls: [`sys`].

pub(crate) mod buffers;
pub mod chunks;
pub mod cli;
pub(crate) mod commands;
pub(crate) mod control;
pub mod error;
pub mod filesystem;
pub(crate) mod fuse;
pub(crate) mod hardware;
pub(crate) mod limits;
pub mod lower;
pub mod metrics;
pub(crate) mod mount_table;
pub(crate) mod names;
pub(crate) mod net;
pub(crate) mod options;
pub(crate) mod prefetch;
pub(crate) mod push;
pub(crate) mod revisions;
pub mod root;
pub mod secrets;
pub mod stack;
pub mod status;
pub(crate) mod store;
pub mod switch;
pub(crate) mod sys;
pub(crate) mod systemd;
pub(crate) mod trace;
pub mod upper;
