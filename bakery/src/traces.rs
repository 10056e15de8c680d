//! The boot traces in the spool: first accesses of clients' boots, from which packs are made.
//!
//! `serve` stores them, `pack` and `watch` read them.

use std::path::{Path, PathBuf};

use ulid::Ulid;
use wire::manifest::ProfileName;

/// Directory of the traces in the spool.
pub(crate) const DIRECTORY: &str = "traces";

/// The traces of one history: directories named by revision.
#[must_use]
pub(crate) fn of_history(spool: &Path, system: &str, profile: &str) -> PathBuf {
    spool.join(DIRECTORY).join(system).join(profile)
}

/// The histories with traces in the spool, by name.
#[must_use]
pub(crate) fn histories(spool: &Path) -> Vec<ProfileName> {
    let root = spool.join(DIRECTORY);
    let mut found: Vec<ProfileName> = names(&root)
        .into_iter()
        .flat_map(|system| {
            let profiles = names(&root.join(&system)).into_iter();
            profiles.filter_map(move |profile| format!("{system}/{profile}").parse().ok())
        })
        .collect();
    found.sort();
    found
}

/// The number of the newest trace below `history` (of [`of_history`]), its revision and its path.
#[must_use]
pub(crate) fn newest(history: &Path) -> Option<(Ulid, u64, PathBuf)> {
    let traces = names(history).into_iter().flat_map(|revision| {
        let directory = history.join(&revision);
        let revision: Option<u64> = revision.parse().ok();
        let traces = names(&directory).into_iter();
        traces.filter_map(move |trace| {
            let id: Ulid = trace.parse().ok()?;
            Some((id, revision?, directory.join(trace)))
        })
    });
    traces.max_by_key(|(id, ..)| *id)
}

/// The names in a directory, sorted; none if it cannot be read.
#[must_use]
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}
