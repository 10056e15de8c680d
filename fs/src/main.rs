//! layerfs: mount.
fn main() {}
