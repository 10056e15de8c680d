//! The boot traces in the spool: first accesses of clients' boots, from which packs are made.
//!
//! `serve` stores them, `pack` and `watch` read them.

use std::path::{Path, PathBuf};

/// Directory of the traces in the spool.
pub(crate) const DIRECTORY: &str = "traces";

/// The traces of one history: directories named by revision.
#[must_use]
pub(crate) fn of_history(spool: &Path, system: &str, profile: &str) -> PathBuf {
    spool.join(DIRECTORY).join(system).join(profile)
}
