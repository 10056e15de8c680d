//! A path of a revision named on the command line, with its tree and contents.

use std::ffi::OsString;

use anyhow::Context as _;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use layerfmt::{Ino, MergedIndex};

use crate::history::{History, Revision, TreePlace, find};

/// The clap parser of `SYSTEM[/PROFILE][@REV]:/PATH`.
pub(crate) fn parser() -> impl clap::builder::TypedValueParser<Value = TreePlace> {
    OsStringValueParser::new().try_map(|text: OsString| TreePlace::parse(&text))
}

/// A path that is there.
#[derive(Debug)]
pub(crate) struct FoundPlace {
    /// The revision to read.
    pub revision: Revision,
    /// The tree of the revision.
    pub merged: MergedIndex,
    /// The object at the path.
    pub ino: Ino,
}

/// Finds the object of `place`; a symbolic link at its end is followed.
///
/// # Errors
/// The revision or path does not exist; the message names a directory to list.
pub(crate) fn open(history: &History, place: &TreePlace) -> anyhow::Result<FoundPlace> {
    let revision = history.revision(&place.revision)?;
    let merged = history.merged(&revision.manifest)?;
    let name = revision.name();
    let ino = find(&merged.index, &place.path, true)
        .with_context(|| format!("{place}: `bakery ls {name}:/` lists the files of {name}"))?;
    Ok(FoundPlace {
        revision,
        merged,
        ino,
    })
}
