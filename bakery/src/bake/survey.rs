//! The changes of an upper, computed from a listing without contents.
//!
//! A listing is the archive of the upload in which the body of each file is one line with its
//! length and its content digest. Therefore `push --dry-run` sends no contents, and the rules of a
//! bake still apply.

use std::io::Read as _;

use layerfmt::writer::ContentHasher;
use layerfmt::{Content, Digest, MergedIndex};
use wire::exclude::Excludes;
use wire::push::Change;

use super::{BakeError, BaseStack, changes};
use crate::assemble::{AssembleError, Contents, Excluded, Reading, assemble};
use crate::failed::Doing as _;
use crate::limits::LISTING_LINE_LEN_MAX;
use source::{Data, EntryPath, Source};

/// The changes of an upper.
#[derive(Debug)]
pub struct Survey {
    /// The changes, in order of paths.
    pub changes: Vec<Change>,
    /// Excluded entries with their patterns.
    pub excluded: Vec<Excluded>,
    /// The total number of excluded paths.
    pub excluded_count: u64,
}

/// Reads a listing and compares it with `base`.
///
/// # Errors
/// It is not a listing, or does not fit the base.
pub fn survey(
    source: &mut dyn Source,
    base: &BaseStack,
    excludes: &Excludes,
) -> Result<Survey, BakeError> {
    let assembly = assemble(source, Reading::Changes, excludes, &mut Listed, &|| {
        base.accounts()
    })?;
    let seen = assembly.seen.clone();
    let tree = base_tree(&base.merged)?;
    let (_, changes) = changes::of_upload(&tree, assembly, source.name(), &mut Vec::new())?;
    Ok(Survey {
        changes,
        excluded: seen.excluded,
        excluded_count: seen.excluded_count,
    })
}

fn base_tree(merged: &MergedIndex) -> Result<layerfmt::Tree<Content>, BakeError> {
    let tree = layerfmt::writer::Base::new(merged).and_then(|base| base.tree());
    Ok(tree.doing(|| "cannot read the base".into())?)
}

/// Contents that are described instead of sent.
struct Listed;

impl Contents for Listed {
    type Content = Content;

    fn take(
        &mut self,
        source: &str,
        path: &EntryPath,
        data: Data<'_>,
    ) -> Result<Content, AssembleError> {
        let mut line = String::new();
        data.reader
            .take(LISTING_LINE_LEN_MAX)
            .read_to_string(&mut line)
            .map_err(|cause| AssembleError::Io {
                doing: format!("{source}: entry \"{path}\""),
                source: cause,
            })?;
        let (size, digest) = match line.trim_end().split_once(' ') {
            None if line.is_empty() => (0, ContentHasher::new().finish(0)),
            Some((size, digest)) => {
                let digest: Option<Digest> = digest.parse().ok();
                let parsed = size.parse().ok().zip(digest);
                parsed.ok_or_else(|| not_listed(source, path))?
            }
            None => return Err(not_listed(source, path)),
        };
        if size > i64::MAX as u64 {
            return Err(not_listed(source, path));
        }
        Ok(Content::new(size, digest, &[]))
    }
}

fn not_listed(source: &str, path: &EntryPath) -> AssembleError {
    AssembleError::Listing(format!(
        "{source}: entry \"{path}\" has no line with length and digest: it is not a listing"
    ))
}
