//! The few direct system calls of the bakery for which no safe crate exists.
#![expect(
    unsafe_code,
    reason = "this module is the bakery's one place for it; each block says why it holds"
)]

pub(crate) mod heap;
pub(crate) mod lease;
pub(crate) mod local_time;
pub(crate) mod sending;
