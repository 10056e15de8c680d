//! What the measurements share: the link shaper, which tests use too.

pub mod shaper;
