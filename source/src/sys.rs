//! The direct system calls of the readers for which no safe crate exists.
#![expect(
    unsafe_code,
    reason = "this module is the crate's one place for it; each block says why it holds"
)]

pub(crate) mod confine;
pub(crate) mod mapping;
