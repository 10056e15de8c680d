//! From an upper to a published revision: ssh, drop directory, crashes, hostile input.

mod clock;
mod crash;
mod drops;
mod full;
mod idle;
mod ssh;

/// The line with which a push begins.
const OPENING: &str = r#"{"version":1,"author":"ann@desk","message":"a change"}"#;
