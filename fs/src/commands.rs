//! The commands: output and exit code of each.
#![expect(clippy::print_stdout, reason = "commands talk to people")]

pub(crate) mod bench_boot;
pub(crate) mod follow;
pub(crate) mod hello;
pub(crate) mod helper;
pub(crate) mod mount;
mod old_files;
mod programs;
pub(crate) mod push;
pub(crate) mod remote;
mod rest;
pub(crate) mod shutdown;
pub(crate) mod status;
pub(crate) mod switch;
pub(crate) mod umount;
pub(crate) mod unpack;
pub(crate) mod values;
pub(crate) mod warm;
