//! The one spelling of a record: JSON with sorted keys and no white space (RFC 8785 for objects
//! with ASCII keys, strings, whole numbers and arrays).

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest whole number that every JSON reader represents exactly.
pub(crate) const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The fault of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    record: &'static str,
    what: String,
}

impl RecordError {
    pub(crate) fn new(record: &'static str, what: impl Into<String>) -> Self {
        RecordError {
            record,
            what: what.into(),
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.record, self.what)
    }
}

impl std::error::Error for RecordError {}

pub(crate) fn parse<T: DeserializeOwned>(
    record: &'static str,
    bytes: &[u8],
    len_max: usize,
) -> Result<T, RecordError> {
    if bytes.len() > len_max {
        let what = format!("{} bytes, more than the allowed {len_max}", bytes.len());
        return Err(RecordError::new(record, what));
    }
    serde_json::from_slice(bytes).map_err(|e| RecordError::new(record, e.to_string()))
}

/// The structs list their fields in key order, so the plain compact form is the canonical one.
pub(crate) fn render<T: Serialize>(
    record: &'static str,
    value: &T,
) -> Result<Vec<u8>, RecordError> {
    serde_json::to_vec(value).map_err(|e| RecordError::new(record, e.to_string()))
}

pub(crate) fn require_canonical<T: Serialize>(
    record: &'static str,
    bytes: &[u8],
    value: &T,
) -> Result<(), RecordError> {
    check(
        record,
        render(record, value)? == bytes,
        "not in canonical form",
    )
}

pub(crate) fn check(record: &'static str, holds: bool, rule: &str) -> Result<(), RecordError> {
    if holds {
        Ok(())
    } else {
        Err(RecordError::new(record, rule))
    }
}

pub(crate) fn check_format(record: &'static str, format: u64) -> Result<(), RecordError> {
    if format == super::RECORD_FORMAT {
        return Ok(());
    }
    let what = format!("format {format} is unknown to this program; a newer one is needed");
    Err(RecordError::new(record, what))
}

/// Checks the number of a record, when it was issued and when it expires (seconds; absent: never).
pub(crate) fn check_lifetime(
    record: &'static str,
    number: u64,
    issued_at: u64,
    expires_at: Option<u64>,
) -> Result<(), RecordError> {
    let ends = expires_at.unwrap_or(INTEGER_MAX);
    check(record, issued_at < ends, "expires_at: not after issued_at")?;
    check(
        record,
        number.max(ends) <= INTEGER_MAX,
        "a number above 2^53-1",
    )
}

/// Printable text of one line: no character can move a terminal's cursor.
pub(crate) fn check_line(
    record: &'static str,
    field: &str,
    text: &str,
    len_max: usize,
) -> Result<(), RecordError> {
    let fits = text.len() <= len_max && !text.chars().any(char::is_control);
    check_field(record, field, fits, len_max)
}

/// Printable text with line breaks and tabs.
pub(crate) fn check_text(
    record: &'static str,
    field: &str,
    text: &str,
    len_max: usize,
) -> Result<(), RecordError> {
    let allowed = |c: char| !c.is_control() || c == '\n' || c == '\t';
    check_field(
        record,
        field,
        text.len() <= len_max && text.chars().all(allowed),
        len_max,
    )
}

fn check_field(
    record: &'static str,
    field: &str,
    fits: bool,
    len_max: usize,
) -> Result<(), RecordError> {
    if fits {
        return Ok(());
    }
    let what = format!("{field}: longer than {len_max} bytes, or with control characters");
    Err(RecordError::new(record, what))
}
