//! Errors of a layer: the problem, the section and the offset.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// The class of a [`FormatError`], for callers that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Not a layer file at all, or cut off before its superblock ends.
    NotALayer,
    /// A version or feature this reader does not know.
    Unsupported,
    /// Bytes whose digest is not the one that was promised.
    DigestMismatch,
    /// Bytes that break a rule of `docs/FORMAT.md`.
    Corrupt,
    /// More than `limits` allows.
    Limit,
    /// The operating system refused to read or write.
    Io,
}

/// One defect: its kind, its section, and its offset in that section.
#[derive(Debug)]
pub struct FormatError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    section: &'static str,
    offset: u64,
    what: Cow<'static, str>,
    source: Option<io::Error>,
}

impl FormatError {
    /// A defect of `kind` at `offset` (bytes, or a row where the text says so) of `section`.
    #[cold]
    pub fn new(
        kind: ErrorKind,
        section: &'static str,
        offset: u64,
        what: impl Into<Cow<'static, str>>,
    ) -> Self {
        FormatError(Box::new(Inner {
            kind,
            section,
            offset,
            what: what.into(),
            source: None,
        }))
    }

    /// A broken rule of the format.
    #[cold]
    pub fn corrupt(section: &'static str, offset: u64, what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Corrupt, section, offset, what)
    }

    /// Something larger than a bound of `limits`.
    #[cold]
    pub fn limit(section: &'static str, offset: u64, what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Limit, section, offset, what)
    }

    /// A read or write the operating system refused.
    #[cold]
    pub fn io(
        section: &'static str,
        offset: u64,
        what: impl Into<Cow<'static, str>>,
        source: io::Error,
    ) -> Self {
        FormatError(Box::new(Inner {
            kind: ErrorKind::Io,
            section,
            offset,
            what: what.into(),
            source: Some(source),
        }))
    }

    /// The class of the defect.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The section the defect is in.
    pub fn section(&self) -> &'static str {
        self.0.section
    }

    /// Offset in the section, in bytes (or in rows where the message says "row").
    pub fn offset(&self) -> u64 {
        self.0.offset
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        write!(f, "{} at {}: {}", inner.section, inner.offset, inner.what)?;
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FormatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

/// `Result` with a [`FormatError`].
pub type Result<T> = std::result::Result<T, FormatError>;
