//! The part of the suite's harness that finds the programs.

#[path = "../harness/programs.rs"]
pub(crate) mod programs;
