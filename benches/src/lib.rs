//! Shared parts of the measurements: synthetic trees and layers, mounts, recorded boots, and the
//! link shaper, which tests use too.

pub mod fixture;
pub mod mounted;
pub mod shaper;
pub mod trace;
