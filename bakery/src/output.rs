//! Standard output and standard error of the program.

use std::io::{self, Write};

use serde::Serialize;

use crate::globals::Globals;

/// The reader of our standard output has closed it; [`crate::cli::run`] then ends silently.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub(crate) struct Closed;

/// Prints a result: as one JSON document with `--json`, else by `human`.
///
/// # Errors
/// [`Closed`]: the reader has closed it; or standard output cannot be written.
pub(crate) fn emit<T: Serialize>(
    globals: &Globals,
    value: &T,
    human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if globals.json {
        serde_json::to_writer_pretty(&mut out, value)
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"))
    } else {
        human(&mut out)
    };
    finish(written.and_then(|()| out.flush()))
}

/// Prints like [`emit`], for a command whose result is a file: the summary is a note, which
/// `--quiet` omits.
///
/// # Errors
/// The errors of [`emit`].
pub(crate) fn summary<T: Serialize>(
    globals: &Globals,
    value: &T,
    human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    if globals.quiet && !globals.json {
        return Ok(());
    }
    emit(globals, value, human)
}

/// Prints text (or, for `dump` and `unpack -`, bytes) that has no JSON form.
///
/// # Errors
/// The errors of [`emit`].
pub(crate) fn raw(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    let mut out = io::BufWriter::with_capacity(256 << 10, io::stdout().lock());
    finish(write(&mut out).and_then(|()| out.flush()))
}

fn finish(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write standard output")),
    }
}

/// Prints one note for a person on standard error, unless `--quiet`.
pub(crate) fn note(globals: &Globals, text: &str) {
    if !globals.quiet {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Prints an error with its causes as one line on standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    let line = crate::human::causes(error.as_ref());
    let _ = writeln!(io::stderr(), "bakery: {line}");
}
