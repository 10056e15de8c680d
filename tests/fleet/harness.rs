//! The part of the suite's harness that locates the programs.

#[path = "../harness/programs.rs"]
pub(crate) mod programs;
