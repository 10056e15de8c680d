//! The tables of the database.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{Result, StoreError};

/// The migrations, each from the version before it. SQLite stores their number as `user_version`.
const STEPS: [&str; 2] = [MACHINES, RETURNS];

const MACHINES: &str = "
CREATE TABLE machines (
    id TEXT PRIMARY KEY,
    name TEXT UNIQUE,
    grp TEXT,
    note TEXT NOT NULL DEFAULT '',
    uuid TEXT,
    asset TEXT NOT NULL DEFAULT '',
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    address TEXT NOT NULL DEFAULT '',
    duplicate_of TEXT,
    clone_seen INTEGER,
    assignment TEXT
) STRICT;
CREATE INDEX machines_by_uuid ON machines (uuid);
CREATE INDEX machines_by_silence ON machines (last_seen);
CREATE TABLE macs (
    mac TEXT NOT NULL,
    machine TEXT NOT NULL REFERENCES machines (id) ON DELETE CASCADE,
    PRIMARY KEY (mac, machine)
) STRICT, WITHOUT ROWID;
CREATE INDEX macs_by_machine ON macs (machine);
CREATE TABLE boots (
    number INTEGER PRIMARY KEY,
    machine TEXT NOT NULL REFERENCES machines (id) ON DELETE CASCADE,
    boot TEXT NOT NULL DEFAULT '',
    began INTEGER NOT NULL,
    heard INTEGER NOT NULL,
    step INTEGER NOT NULL,
    revision TEXT NOT NULL DEFAULT '',
    target_ms INTEGER,
    why TEXT NOT NULL DEFAULT '',
    hello TEXT
) STRICT;
CREATE INDEX boots_by_machine ON boots (machine, number);
CREATE INDEX boots_by_silence ON boots (heard);
CREATE TABLE groups (
    name TEXT PRIMARY KEY,
    assignment TEXT NOT NULL
) STRICT;
";

const RETURNS: &str = "
CREATE TABLE returns (
    machine TEXT NOT NULL REFERENCES machines (id) ON DELETE CASCADE,
    revision TEXT NOT NULL,
    good TEXT NOT NULL,
    since INTEGER NOT NULL,
    lifted INTEGER,
    PRIMARY KEY (machine, revision)
) STRICT;
CREATE TABLE watches (
    number INTEGER PRIMARY KEY,
    began INTEGER NOT NULL,
    heard INTEGER NOT NULL
) STRICT;
";

/// Runs the missing migrations; refuses the schema of a newer program.
pub(super) fn settle(path: &Path, connection: &Connection) -> Result<()> {
    let form = || connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0));
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    if form()? < known {
        let work =
            rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        // Another process may have run them in the meantime.
        for step in STEPS.iter().skip(form()? as usize) {
            work.execute_batch(step)?;
        }
        work.pragma_update(None, "user_version", known)?;
        work.commit()?;
    }
    match form()? {
        found if found == known => Ok(()),
        found => Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known,
        }),
    }
}
