//! The tables of the database.

use std::path::Path;

use super::link::{Connection, Engine};
use super::postgresql::PostgreSql;
use super::sqlite::Sqlite;
use super::{Result, StoreError};

/// The migrations, each from the version before it, in SQLite's dialect. Both engines store their
/// number.
const STEPS: [&str; 4] = [MACHINES, RETURNS, VALUES, SWITCHES];

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

const VALUES: &str = "
ALTER TABLE machines ADD COLUMN accepted TEXT;
ALTER TABLE machines ADD COLUMN offered TEXT;
ALTER TABLE machines ADD COLUMN forged_seen INTEGER;
ALTER TABLE machines ADD COLUMN layer INTEGER;
CREATE TABLE machine_values (
    machine TEXT NOT NULL REFERENCES machines (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (machine, name)
) STRICT;
CREATE TABLE group_values (
    grp TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (grp, name)
) STRICT;
";

const SWITCHES: &str = "
ALTER TABLE boots ADD COLUMN step_before INTEGER;
";

/// Opens the file, and runs the missing migrations.
pub(super) fn sqlite(path: &Path) -> Result<Connection> {
    let mut engine = Sqlite::open(path)?;
    if engine.version()? < known() {
        engine.begin()?;
        // Another process may have run them in the meantime.
        let version = engine.version()?;
        let done = engine.migrate(missing(version), known().max(version));
        finish(&mut engine, done)?;
    }
    require_known(path, engine.version()?)?;
    Ok(Connection::new(Box::new(engine)))
}

/// Connects to a database of PostgreSQL, and runs the missing migrations.
pub(super) fn postgresql(url: &str) -> Result<Connection> {
    let mut engine = PostgreSql::open(url)?;
    engine.begin()?;
    let done = engine.version().and_then(|version| {
        let version = if version < known() {
            engine.migrate(missing(version), known())?;
            known()
        } else {
            version
        };
        require_known(Path::new("the database of PostgreSQL"), version)
    });
    finish(&mut engine, done)?;
    Ok(Connection::new(Box::new(engine)))
}

fn finish(engine: &mut dyn Engine, done: Result<()>) -> Result<()> {
    match done {
        Ok(()) => engine.commit(),
        Err(error) => {
            engine.roll_back();
            Err(error)
        }
    }
}

fn known() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

fn missing(version: u32) -> &'static [&'static str] {
    STEPS.get(version as usize..).unwrap_or_default()
}

/// Refuses the schema of a newer program.
fn require_known(path: &Path, found: u32) -> Result<()> {
    match found == known() {
        true => Ok(()),
        false => Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: known(),
        }),
    }
}
