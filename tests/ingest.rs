//! From an upper to a published revision: ssh, drop directory, crashes, hostile input.

mod blame;
mod clock;
mod crash;
mod drops;
mod full;
mod idle;
mod patience;
mod preview;
mod ssh;
mod sshd;

/// The line with which a push begins.
const OPENING: &str = r#"{"version":1,"author":"ann@desk","message":"a change"}"#;
