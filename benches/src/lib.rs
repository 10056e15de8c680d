//! What the measurements share: made trees and layers, and the link shaper, which tests use too.

pub mod fixture;
pub mod shaper;
