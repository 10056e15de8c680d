//! The database: SQLite, one file, write-ahead log.
//!
//! A hello is acknowledged after its transaction is on the disk (`synchronous=FULL`), so it survives `kill -9` and a
//! power cut. The commands of the operator open the same file while the process runs.

mod assignments;
mod boots;
mod census;
mod hello;
mod judge;
mod machines;
mod schema;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

pub use assignments::Whom;
pub use census::Census;
pub use hello::{Heard, Known};
pub use machines::Filter;

/// The fleet's place in the spool.
pub const DIRECTORY: &str = "fleet";
/// The database in it.
const FILE: &str = "fleet.sqlite";
/// The socket of the process in it.
const SOCKET: &str = "socket";
/// Longest wait for another process that writes.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// Pages that SQLite keeps in memory, KiB.
const CACHE_KIB: u32 = 4096;
/// Machines kept. When there are more, the one goes that was silent longest among those nobody named or assigned:
/// who invents machines takes nothing from the operator's.
pub const MACHINES_MAX: u64 = 20_000;

/// Failed boots of a revision after which a machine returns to its last good one.
pub const RETURN_AFTER: u32 = 3;

/// Errors of the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not exist.
    #[error("{0} is not there: `bakery fleet` makes it when it first runs")]
    Absent(PathBuf),
    /// A newer program made it.
    #[error("{path} has the form {found}, this program knows {known}: use the newer program")]
    Newer {
        /// The database.
        path: PathBuf,
        /// The form of its tables.
        found: u32,
        /// The form that this program knows.
        known: u32,
    },
    /// SQLite reports an error.
    #[error("the database of the fleet: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The directory cannot be made or looked at.
    #[error("{path}: {source}")]
    Place {
        /// The place in the file system.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// No machine has this name.
    #[error("there is no machine {0}: `bakery machine list` shows those that were heard")]
    NoMachine(String),
    /// More than one machine has this name.
    #[error("{0} names {1} machines: use the id that `bakery machine list` shows")]
    Ambiguous(String, usize),
    /// A word that cannot be used.
    #[error("{0}")]
    Refused(String),
}

/// Result of everything here.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The database of a spool.
#[must_use]
pub fn database(spool: &Path) -> PathBuf {
    spool.join(DIRECTORY).join(FILE)
}

/// The socket of the process of a spool.
#[must_use]
pub fn socket(spool: &Path) -> PathBuf {
    spool.join(DIRECTORY).join(SOCKET)
}

/// An open database.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    machines_max: u64,
    return_after: u32,
}

impl Store {
    /// Opens the database of a spool, and makes it if it is not there.
    ///
    /// # Errors
    /// The place cannot be written, or holds what is none of ours.
    pub fn create(spool: &Path) -> Result<Store> {
        let path = database(spool);
        let directory = spool.join(DIRECTORY);
        std::fs::create_dir_all(&directory).map_err(|source| StoreError::Place {
            path: directory,
            source,
        })?;
        Self::open_file(&path, Connection::open(&path)?)
    }

    /// Opens the database of a spool.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub fn open(spool: &Path) -> Result<Store> {
        let path = database(spool);
        if !path.exists() {
            return Err(StoreError::Absent(path));
        }
        Self::open_file(&path, Connection::open(&path)?)
    }

    fn open_file(path: &Path, connection: Connection) -> Result<Store> {
        connection.busy_timeout(BUSY_WAIT)?;
        connection.execute_batch(&format!(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-{CACHE_KIB};"
        ))?;
        schema::settle(path, &connection)?;
        Ok(Store {
            connection,
            machines_max: MACHINES_MAX,
            return_after: RETURN_AFTER,
        })
    }

    /// Deletes boots older than `days`, and machines silent for so long that nobody named or assigned.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn prune(&mut self, days: u32, now: i64) -> Result<()> {
        let before = now - i64::from(days) * 24 * 3600;
        let work = self.connection.transaction()?;
        work.execute("DELETE FROM boots WHERE heard < ?1", [before])?;
        work.execute("DELETE FROM watches WHERE heard < ?1", [before])?;
        let machines = format!(
            "DELETE FROM machines WHERE last_seen < ?1 AND {}",
            machines::UNTOUCHED
        );
        work.execute(&machines, [before])?;
        work.commit()?;
        Ok(())
    }

    /// Returns a machine after so many failed boots instead of [`RETURN_AFTER`]; 0: never.
    #[must_use]
    pub fn with_return_after(self, return_after: u32) -> Store {
        Store {
            return_after,
            ..self
        }
    }

    /// Keeps so many machines instead of [`MACHINES_MAX`].
    #[must_use]
    pub fn with_machines_max(self, machines_max: u64) -> Store {
        Store {
            machines_max,
            ..self
        }
    }
}
