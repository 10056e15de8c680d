//! The boot traces in the spool: what clients touched in their boots, from which packs are made.
//!
//! `serve` puts them there, `pack` and `watch` read them.

use std::path::{Path, PathBuf};

/// The traces' place in the spool.
pub const DIRECTORY: &str = "traces";

/// Where the traces of one history are: directories named by revision.
#[must_use]
pub fn of_history(spool: &Path, system: &str, profile: &str) -> PathBuf {
    spool.join(DIRECTORY).join(system).join(profile)
}
