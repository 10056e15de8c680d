//! The database: one SQLite file with a write-ahead log.
//!
//! The process acknowledges a hello after its transaction is on the disk (`synchronous=FULL`), so
//! the hello survives `kill -9` and a power cut. The operator's commands open the same file while
//! the process runs.

mod assignments;
mod boots;
mod census;
mod hello;
mod judge;
mod machines;
mod schema;
mod trials;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

pub use assignments::Whom;
pub use census::Census;
pub use hello::{Heard, Known};
pub use machines::Filter;
pub use trials::{GoodBoot, Outcome, Trial, median};

/// The fleet's directory in the spool.
pub const DIRECTORY: &str = "fleet";
/// File name of the database.
const FILE: &str = "fleet.sqlite";
/// File name of the process's socket.
const SOCKET: &str = "socket";
/// Longest wait for the write lock of another process.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// Size of SQLite's page cache, KiB.
const CACHE_KIB: u32 = 4096;
/// Largest number of machines. For one more, the database deletes the machine with the oldest last
/// hello among those that the operator never changed. Invented machines therefore never replace the
/// operator's.
pub(crate) const MACHINES_MAX: u64 = 20_000;

/// Failed boots of a revision after which a machine returns to its last good revision.
pub const RETURN_AFTER: u32 = 3;

/// Errors of the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not exist.
    #[error("{0} does not exist: `bakery fleet` creates it at its first start")]
    Absent(PathBuf),
    /// A newer program created the database.
    #[error(
        "{path} has schema version {found}, this program supports {known}: use the newer program"
    )]
    Newer {
        /// The path of the database.
        path: PathBuf,
        /// The version of its schema.
        found: u32,
        /// The newest version that this program supports.
        known: u32,
    },
    /// SQLite reports an error.
    #[error("the fleet database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The directory cannot be created.
    #[error("{path}: {source}")]
    Place {
        /// The path of the directory.
        path: PathBuf,
        /// The cause of the failure.
        source: std::io::Error,
    },
    /// No machine has this name.
    #[error("no machine {0}: `bakery machine list` shows the known machines")]
    NoMachine(String),
    /// More than one machine has this name.
    #[error("{0} names {1} machines: use the id that `bakery machine list --json` shows")]
    Ambiguous(String, usize),
    /// A value of the operator is not valid.
    #[error("{0}")]
    Refused(String),
}

/// `Result` with a [`StoreError`].
pub type Result<T> = std::result::Result<T, StoreError>;

/// Path of the database in a spool.
#[must_use]
pub fn database(spool: &Path) -> PathBuf {
    spool.join(DIRECTORY).join(FILE)
}

/// Path of the process's socket in a spool.
#[must_use]
pub fn socket(spool: &Path) -> PathBuf {
    spool.join(DIRECTORY).join(SOCKET)
}

/// The open database.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    machines_max: u64,
    return_after: u32,
}

impl Database {
    /// Opens the database of a spool; creates it if it does not exist.
    ///
    /// # Errors
    /// The directory cannot be written, or the file is not a database of this program.
    pub fn create(spool: &Path) -> Result<Database> {
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
    /// The database does not exist, or it cannot be opened.
    pub fn open(spool: &Path) -> Result<Database> {
        let path = database(spool);
        if !path.exists() {
            return Err(StoreError::Absent(path));
        }
        Self::open_file(&path, Connection::open(&path)?)
    }

    fn open_file(path: &Path, connection: Connection) -> Result<Database> {
        connection.busy_timeout(BUSY_WAIT)?;
        connection.execute_batch(&format!(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-{CACHE_KIB};"
        ))?;
        schema::settle(path, &connection)?;
        Ok(Database {
            connection,
            machines_max: MACHINES_MAX,
            return_after: RETURN_AFTER,
        })
    }

    /// Deletes boots older than `days`, and machines without a hello for `days` that the operator
    /// never changed.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn prune(&mut self, days: u32, now: i64) -> Result<()> {
        let before = now - i64::from(days) * 24 * 3600;
        let work = self.connection.transaction()?;
        work.execute("DELETE FROM boots WHERE heard < ?1", [before])?;
        work.execute("DELETE FROM watches WHERE heard < ?1", [before])?;
        let clones = "UPDATE machines SET clone_seen = NULL WHERE clone_seen < ?1";
        work.execute(clones, [before])?;
        let machines = format!(
            "DELETE FROM machines WHERE last_seen < ?1 AND {}",
            machines::UNTOUCHED
        );
        work.execute(&machines, [before])?;
        work.commit()?;
        Ok(())
    }

    /// Sets the number of failed boots before a return, in place of [`RETURN_AFTER`]; 0: never.
    #[must_use]
    pub fn with_return_after(self, return_after: u32) -> Database {
        Database {
            return_after,
            ..self
        }
    }

    /// Sets the largest number of machines, in place of [`MACHINES_MAX`].
    #[must_use]
    pub fn with_machines_max(self, machines_max: u64) -> Database {
        Database {
            machines_max,
            ..self
        }
    }
}
