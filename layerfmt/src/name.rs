//! A validated path component.

use std::borrow::Borrow;
use std::fmt;

use crate::limits::NAME_LEN_MAX;

/// One component of a path: 1 to 255 bytes, no `/`, no NUL, not `.` and not `..`. Bytes, not UTF-8,
/// as in Linux; ordered bytewise, as in the format.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// The reason why bytes are not a [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// No bytes at all.
    Empty,
    /// More than 255 bytes.
    TooLong,
    /// The name `.` or `..`.
    Dots,
    /// A `/` or a NUL inside.
    ForbiddenByte,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::Empty => "empty name",
            NameError::TooLong => "name longer than 255 bytes",
            NameError::Dots => "name is \".\" or \"..\"",
            NameError::ForbiddenByte => "name holds \"/\" or NUL",
        })
    }
}

impl std::error::Error for NameError {}

/// Check that `bytes` may be a name.
///
/// # Errors
/// The rule that they break.
pub fn check(bytes: &[u8]) -> Result<(), NameError> {
    check_len(bytes)?;
    if memchr::memchr2(0, b'/', bytes).is_some() {
        return Err(NameError::ForbiddenByte);
    }
    Ok(())
}

/// Checks like [`check`], for bytes known to hold no `/` and no NUL.
pub(crate) fn check_len(bytes: &[u8]) -> Result<(), NameError> {
    match bytes {
        [] => Err(NameError::Empty),
        b"." | b".." => Err(NameError::Dots),
        _ if bytes.len() > NAME_LEN_MAX => Err(NameError::TooLong),
        _ => Ok(()),
    }
}

impl Name {
    /// The validated name.
    ///
    /// # Errors
    /// When `bytes` break a rule above.
    pub fn new(bytes: &[u8]) -> Result<Name, NameError> {
        check(bytes)?;
        Ok(Name(bytes.into()))
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        assert!(Name::new(b"a").is_ok());
        assert!(Name::new(b"...").is_ok());
        assert!(Name::new(&[0xff; 255]).is_ok());
        assert_eq!(Name::new(b""), Err(NameError::Empty));
        assert_eq!(Name::new(b".."), Err(NameError::Dots));
        assert_eq!(Name::new(&[b'x'; 256]), Err(NameError::TooLong));
        assert_eq!(Name::new(b"a/b"), Err(NameError::ForbiddenByte));
        assert_eq!(Name::new(b"a\0"), Err(NameError::ForbiddenByte));
    }
}
