//! The database of the fleet in a file of the spool.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]

#[path = "cases/judge.rs"]
mod judge;
#[path = "cases/keys.rs"]
mod keys;
#[path = "cases/store.rs"]
mod store;
#[path = "cases/switched.rs"]
mod switched;

/// What the cases need of the engine.
mod engine {
    use std::path::Path;

    /// A spool without a database.
    pub(crate) fn spool() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// Sets the version of the schema.
    pub(crate) fn set_version(spool: &Path, version: u32) {
        let path = spool.join(fleet::store::DIRECTORY).join("fleet.sqlite");
        let file = rusqlite::Connection::open(path).unwrap();
        file.pragma_update(None, "user_version", version).unwrap();
    }
}
