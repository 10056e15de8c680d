//! Every path of a store and every URL of a server: no other module builds or parses one.
//!
//! A store's layout is also the layout of its URLs, so an [`ObjectPath`] names an object in a
//! directory, in a bucket and behind a web server alike. [`Request`] adds the rest of a server's
//! URLs. `docs/PROTOCOL.md` §1 and `docs/HTTP.md` have the same tables for people; a test compares
//! both with this module.
//!
//! Both types have one spelling for each value: parsing a built path gives the value again, and
//! anything that this module would not write is refused. A path that a client sends therefore never
//! reaches a file system unchecked.

mod class;
mod object;
mod request;

pub use class::{Class, Lifetime};
pub use object::{LockKind, ObjectPath};
pub use request::{Request, UPDATES_FIELD, route};

use crate::manifest::ProfileName;

/// Digits of a revision or version in a name: as many as a `u64` needs, so that names sort like
/// numbers.
const NUMBER_WIDTH: usize = 20;

/// Longest identifier of a purge, lock or probe, bytes.
const ID_LEN_MAX: usize = 64;

/// Reads a number of exactly 20 digits.
fn number(text: &str) -> Option<u64> {
    let digits = text.len() == NUMBER_WIDTH && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Reads a number as [`Display`](std::fmt::Display) writes it: no sign, no leading zero.
fn plain_number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// True for a single component that no file system or URL reads as anything else.
fn is_id(text: &str) -> bool {
    text.len() <= ID_LEN_MAX
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Reads `SYSTEM/PROFILE`, both written out.
fn full_name(text: &str) -> Option<ProfileName> {
    let (system, profile) = text.split_once('/')?;
    ProfileName::new(system, profile).ok()
}
