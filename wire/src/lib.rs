//! The parts of layerfs that its client and its server share.
//!
//! Both sides must read the same text in the same way, so each language they share has one
//! implementation here. This crate has no I/O, no clock and no environment.

pub mod exclude;
pub mod secrets;
