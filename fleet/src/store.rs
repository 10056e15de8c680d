//! The database: one SQLite file with a write-ahead log, or a database of PostgreSQL.
//!
//! The process acknowledges a hello after its transaction is on the disk, so the hello survives
//! `kill -9` and a power cut. The operator's commands open the same database while the process
//! runs.
//!
//! A call may wait for the disk or the network: asynchronous programs call it on a thread of its
//! own.

mod assignments;
mod boot_row;
mod boots;
mod census;
mod hello;
mod judge;
mod link;
mod machines;
mod place;
mod postgresql;
mod proof;
mod schema;
mod sqlite;
mod trials;
mod values;

use std::path::{Path, PathBuf};

use link::{Connection, params};

pub use assignments::MachineOrGroup;
pub use census::Census;
pub use hello::{FleetMessage, MachineFacts};
pub use machines::Filter;
pub use place::{database, set_url};
pub use proof::Proof;
pub use trials::{GoodBoot, Outcome, Trial, median};
pub use values::Values;

/// The fleet's directory in the spool.
pub const DIRECTORY: &str = "fleet";
/// File name of the process's socket.
const SOCKET: &str = "socket";
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
    /// The engine of the database reports an error.
    #[error("the fleet database: {0}")]
    Failed(String),
    /// A value that must be unique is in the database already.
    #[error("the fleet database has this value already")]
    Taken,
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
    needs_token: bool,
}

impl Database {
    /// Opens the database of a spool: that of the URL in it, else the file. Creates the tables if
    /// they do not exist.
    ///
    /// # Errors
    /// The directory cannot be written, the database is not one of this program, or PostgreSQL does
    /// not answer.
    pub fn create(spool: &Path) -> Result<Database> {
        let directory = spool.join(DIRECTORY);
        std::fs::create_dir_all(&directory).map_err(|source| StoreError::Place {
            path: directory,
            source,
        })?;
        Self::connect(spool)
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
        Self::connect(spool)
    }

    /// Opens the database of a PostgreSQL server; creates the tables if they do not exist.
    ///
    /// # Errors
    /// The URL is not valid, the server does not answer, or a newer program made the tables.
    pub fn open_url(url: &str) -> Result<Database> {
        Ok(Self::of(schema::postgresql(url)?))
    }

    fn connect(spool: &Path) -> Result<Database> {
        match place::url(spool)? {
            Some(url) => Self::open_url(&url),
            None => Ok(Self::of(schema::sqlite(&place::file(spool))?)),
        }
    }

    fn of(connection: Connection) -> Database {
        Database {
            connection,
            machines_max: MACHINES_MAX,
            return_after: RETURN_AFTER,
            needs_token: false,
        }
    }

    /// Deletes boots older than `days`, and machines without a hello for `days` that the operator
    /// never changed.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn prune(&mut self, days: u32, now: i64) -> Result<()> {
        let before = now - i64::from(days) * 24 * 3600;
        let machines = format!(
            "DELETE FROM machines WHERE last_seen < ?1 AND {}",
            machines::UNTOUCHED
        );
        self.connection.transaction(|| {
            for sql in [
                "DELETE FROM boots WHERE heard < ?1",
                "DELETE FROM watches WHERE heard < ?1",
                "UPDATE machines SET clone_seen = NULL WHERE clone_seen < ?1",
                "UPDATE machines SET forged_seen = NULL WHERE forged_seen < ?1",
                &machines,
            ] {
                self.connection.execute(sql, &params![before])?;
            }
            Ok(())
        })
    }

    /// Sets the number of failed boots before a return, in place of [`RETURN_AFTER`]; 0: never.
    #[must_use]
    pub fn with_return_after(self, return_after: u32) -> Database {
        Database {
            return_after,
            ..self
        }
    }

    /// With `true`, refuses hellos without the room's token or the signature of an accepted key.
    #[must_use]
    pub fn with_token(self, needs_token: bool) -> Database {
        Database {
            needs_token,
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
