//! The commands: output and exit code of each.
#![expect(clippy::print_stdout, reason = "commands talk to people")]

pub mod bench_boot;
pub mod hello;
pub mod helper;
pub mod mount;
pub mod push;
pub mod remote;
mod rest;
pub mod shutdown;
pub mod status;
pub mod umount;
pub mod unpack;
pub mod warm;
