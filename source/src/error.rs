//! Errors of an input: the fault and its place.

use std::fmt;
use std::io;

use super::EntryPath;

/// An input that cannot be read: its name, the entry, the byte, the fault and the remedy.
#[derive(Debug)]
pub struct SourceError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    input: String,
    entry: Option<String>,
    offset: Option<u64>,
    problem: String,
    cause: Option<io::Error>,
}

impl SourceError {
    /// A fault of `input` as a whole.
    #[cold]
    pub fn new(input: impl Into<String>, problem: impl Into<String>) -> Self {
        SourceError(Box::new(Inner {
            input: input.into(),
            entry: None,
            offset: None,
            problem: problem.into(),
            cause: None,
        }))
    }

    /// Names the affected entry.
    #[must_use]
    pub fn entry(mut self, path: &EntryPath) -> Self {
        self.0.entry = Some(path.to_string());
        self
    }

    /// The affected entry, if its name is not a valid path.
    #[must_use]
    pub(crate) fn raw_entry(mut self, name: &[u8]) -> Self {
        let shown = name.get(..256).unwrap_or(name);
        self.0.entry = Some(shown.escape_ascii().to_string());
        self
    }

    /// Offset in the input, in bytes after decompression.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Adds the error of the operating system or of the decoder.
    #[must_use]
    pub fn cause(mut self, cause: io::Error) -> Self {
        self.0.cause = Some(cause);
        self
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            input,
            entry,
            offset,
            problem,
            cause,
        } = &*self.0;
        write!(f, "{input}")?;
        if let Some(entry) = entry {
            write!(f, ": entry \"{entry}\"")?;
        }
        if let Some(offset) = offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {problem}")?;
        if let Some(cause) = cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SourceError {}
