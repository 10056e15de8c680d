//! The lines that differ between a file of two revisions.

use std::time::Duration;

use layerfmt::MergedIndex;
use serde::Serialize;
use similar::TextDiff;

use crate::failed::{Doing as _, Failed};
use crate::graft::TreeChange;
use crate::history::{History, HistoryError, Revision, find, write_content};
use crate::human;
use crate::limits::DIFF_FILE_LEN_MAX;

/// Bytes at the start of a file that decide if it is a text: without a NUL it is one, as in git.
const TEXT_HEAD_LEN: usize = 8000;
/// Longest time of the search for a shorter difference; the one found until then is also correct.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines shown around each difference.
const CONTEXT_LINES: usize = 3;

/// One of two revisions to compare.
#[derive(Debug)]
pub struct Side<'h> {
    /// The source of its contents.
    pub history: &'h History,
    /// The revision to compare.
    pub revision: Revision,
    /// The tree of the revision.
    pub merged: MergedIndex,
}

/// A changed path with its lines.
#[derive(Debug, Serialize)]
pub struct ContentChange {
    /// The mark of the [`TreeChange`].
    pub mark: char,
    /// The path of the [`TreeChange`].
    pub path: String,
    /// The description of the [`TreeChange`].
    pub what: String,
    /// A unified diff, or one line with the reason for having none; empty if no content changed.
    pub lines: String,
}

/// The reason why contents cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// A layer is missing or damaged.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A content cannot be read.
    #[error(transparent)]
    Read(#[from] Failed<std::io::Error>),
}

/// The content of a file on one side.
enum Text {
    None,
    Bytes(Vec<u8>),
    TooLong(u64),
}

/// The difference of one path.
///
/// # Errors
/// A content is missing or damaged.
pub fn of(
    change: &TreeChange,
    from: &Side<'_>,
    to: &Side<'_>,
) -> Result<ContentChange, ContentError> {
    let lines = match (from.text(&change.bytes)?, to.text(&change.bytes)?) {
        (Text::None, Text::None) => String::new(),
        (Text::TooLong(len), _) | (_, Text::TooLong(len)) => {
            let (len, max) = (human::length(len), human::length(DIFF_FILE_LEN_MAX));
            format!("Not compared line by line: {len}, more than {max}\n")
        }
        (before, after) => unified(change, from, to, &before.bytes(), &after.bytes()),
    };
    Ok(ContentChange {
        mark: change.mark,
        path: change.path.clone(),
        what: change.what.clone(),
        lines,
    })
}

fn unified(
    change: &TreeChange,
    from: &Side<'_>,
    to: &Side<'_>,
    before: &[u8],
    after: &[u8],
) -> String {
    if before == after {
        return String::new();
    }
    let is_binary = |bytes: &[u8]| bytes.iter().take(TEXT_HEAD_LEN).any(|byte| *byte == 0);
    if is_binary(before) || is_binary(after) {
        let (before, after) = (before.len() as u64, after.len() as u64);
        let (before, after) = (human::length(before), human::length(after));
        return format!("Binary contents differ: {before}, then {after}\n");
    }
    let name = |side: &Side<'_>| format!("{}:/{}", side.revision.name(), change.path);
    let diff = TextDiff::configure()
        .timeout(PATIENCE)
        .diff_lines(before, after);
    let mut lines = diff.unified_diff();
    lines.context_radius(CONTEXT_LINES);
    lines.header(&name(from), &name(to));
    lines.to_string()
}

impl Side<'_> {
    fn text(&self, path: &[u8]) -> Result<Text, ContentError> {
        let index = &self.merged.index;
        let Ok(ino) = find(index, path, false) else {
            return Ok(Text::None);
        };
        let Some(inode) = index.inode(ino).filter(|inode| inode.is_file()) else {
            return Ok(Text::None);
        };
        if inode.size > DIFF_FILE_LEN_MAX {
            return Ok(Text::TooLong(inode.size));
        }
        let layers = self
            .history
            .layers_of_file(&self.revision.manifest, &self.merged, ino)?;
        let mut bytes = Vec::new();
        write_content(index, &layers, ino, &mut bytes).doing(|| {
            let name = self.revision.name();
            format!("cannot read {name}:/{}", path.escape_ascii())
        })?;
        Ok(Text::Bytes(bytes))
    }
}

impl Text {
    fn bytes(self) -> Vec<u8> {
        match self {
            Text::Bytes(bytes) => bytes,
            Text::None | Text::TooLong(_) => Vec::new(),
        }
    }
}
