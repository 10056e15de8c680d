//! The changes of an upper, computed from a listing without contents.
//!
//! A listing is the archive of the upload in which the body of each file is one line with its
//! length and its content digest. Therefore `push --dry-run` sends no contents, and the rules of a
//! bake still apply.

use std::io::Read as _;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use layerfmt::writer::ContentHasher;
use layerfmt::{Content, Digest, MergedIndex};
use wire::exclude::Excludes;
use wire::push::Change;

use super::{BaseStack, changes};
use crate::assemble::{Contents, Excluded, Reading, assemble};
use crate::source::{Data, EntryPath, Source};

/// Longest body of a file in a listing.
const LINE_LEN_MAX: u64 = 128;

/// The changes of an upper.
#[derive(Debug)]
pub struct Survey {
    /// The changes, in order of paths.
    pub changes: Vec<Change>,
    /// Entries that the excludes leave out, with the pattern of each.
    pub excluded: Vec<Excluded>,
    /// The total number of excluded paths.
    pub excluded_count: u64,
}

/// Reads a listing and compares it with `base`.
///
/// # Errors
/// It is no listing, or does not fit the base.
pub fn survey(
    source: &mut dyn Source,
    base: &BaseStack,
    excludes: &Excludes,
) -> anyhow::Result<Survey> {
    let assembly = assemble(source, Reading::Changes, excludes, &mut Listed, &|| {
        base.accounts()
    })?;
    let seen = assembly.seen.clone();
    let tree = base_tree(&base.merged)?;
    let (_, changes) = changes::of_upload(&tree, assembly, &mut Vec::new())
        .with_context(|| format!("cannot apply {} to its base", source.name()))?;
    Ok(Survey {
        changes,
        excluded: seen.excluded,
        excluded_count: seen.excluded_count,
    })
}

fn base_tree(merged: &MergedIndex) -> anyhow::Result<layerfmt::Tree<Content>> {
    Ok(layerfmt::writer::Base::new(merged)?.tree()?)
}

/// Contents that are told, not sent.
struct Listed;

impl Contents for Listed {
    type Content = Content;

    fn take(
        &mut self,
        source: &str,
        path: &EntryPath,
        data: Data<'_>,
    ) -> Result<Content, anyhow::Error> {
        let mut line = String::new();
        data.reader
            .take(LINE_LEN_MAX)
            .read_to_string(&mut line)
            .with_context(|| format!("{source}: entry \"{path}\""))?;
        let (size, digest) = match line.trim_end().split_once(' ') {
            None if line.is_empty() => (0, ContentHasher::new().finish(0)),
            Some((size, digest)) => {
                let digest: Option<Digest> = digest.parse().ok();
                let parsed = size.parse().ok().zip(digest);
                parsed.with_context(|| not_listed(source, path))?
            }
            None => anyhow::bail!(not_listed(source, path)),
        };
        ensure!(size <= i64::MAX as u64, not_listed(source, path));
        Ok(Content {
            size,
            digest,
            extents: Arc::from([]),
        })
    }
}

fn not_listed(source: &str, path: &EntryPath) -> String {
    format!("{source}: entry \"{path}\" has no line with length and digest: it is not a listing")
}
