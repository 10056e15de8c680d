//! bakery: server.
fn main() {}
