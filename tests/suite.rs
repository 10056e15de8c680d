//! Whole-house tests.

mod architecture;
