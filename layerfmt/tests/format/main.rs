//! The format's laws on random trees, its golden files, and what damage does.

mod arbitrary;
mod damage;
mod golden;
mod kernel;
mod laws;
mod spec;
