//! Everything that requests share.

use std::path::Path;
use std::sync::Arc;

use bakery::history::History;
use bakery::jobs::Spool;
use bakery::publish::Publisher;
use fleet::store::Database;

use crate::accounts::Accounts;
use crate::audit::Audit;
use crate::chains::Chains;
use crate::lockout::Lockout;
use crate::options::ConsoleOptions;
use crate::problem::{Problem, Result};
use crate::sessions::Sessions;
use crate::snapshot::{self, Snapshot, Snapshots};
use crate::tasks::Tasks;
use crate::uploads::Images;

/// The console.
#[derive(Debug)]
pub(crate) struct App {
    /// The command line.
    pub(crate) options: ConsoleOptions,
    /// The URL for people.
    pub(crate) url: String,
    /// The accounts.
    pub(crate) accounts: Accounts,
    /// The people who are logged in.
    pub(crate) sessions: Sessions,
    /// Failed attempts to log in.
    pub(crate) lockout: Lockout,
    /// The audit log.
    pub(crate) audit: Audit,
    /// Long operations.
    pub(crate) tasks: Tasks,
    /// The images.
    pub(crate) images: Images,
    /// Histories in memory.
    pub(crate) chains: Chains,
    /// The contents of the overview.
    pub(crate) snapshots: Snapshots,
}

impl App {
    /// Opens the console's own files.
    ///
    /// # Errors
    /// They cannot be read or made.
    pub(crate) fn open(options: ConsoleOptions, url: String) -> std::result::Result<App, String> {
        let state = &options.state;
        let failed =
            |error: &dyn std::fmt::Display| format!("cannot use {}: {error}", state.display());
        make_private(state).map_err(|error| failed(&error))?;
        let images = options
            .images
            .clone()
            .unwrap_or_else(|| state.join("images"));
        Ok(App {
            accounts: Accounts::open(state).map_err(|error| error.to_string())?,
            audit: Audit::open(state).map_err(|error| failed(&error))?,
            images: Images::open(&images, options.upload_max)
                .map_err(|error| format!("cannot use {}: {error}", images.display()))?,
            sessions: Sessions::default(),
            lockout: Lockout::default(),
            tasks: Tasks::default(),
            chains: Chains::default(),
            snapshots: Snapshots::default(),
            url,
            options,
        })
    }

    /// The histories of the store.
    ///
    /// # Errors
    /// The store or its keys cannot be read.
    pub(crate) fn history(&self) -> Result<History> {
        let opened = self.options.globals.history();
        opened.map_err(|error| Problem::failed(format!("{error:#}")))
    }

    /// The histories for publishing, or for a dry run.
    ///
    /// # Errors
    /// The console may not read the keys.
    pub(crate) fn publisher(&self, rehearsing: bool) -> Result<Publisher> {
        let opened = self.options.globals.publisher();
        let publisher = opened.map_err(|error| Problem::failed(format!("{error:#}")))?;
        Ok(if rehearsing {
            publisher.rehearsing()
        } else {
            publisher
        })
    }

    /// The fleet's database; `None` without a fleet.
    pub(crate) fn database(&self) -> Option<Database> {
        if !fleet::store::database(&self.options.spool).exists() {
            return None;
        }
        Database::open(&self.options.spool)
            .inspect_err(|error| tracing::warn!("the fleet's database cannot be read: {error}"))
            .ok()
    }

    /// The fleet's database.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn require_database(&self) -> Result<Database> {
        self.database()
            .ok_or_else(|| Problem::absent("there is no fleet: `bakery fleet` records machines"))
    }

    /// The present snapshot.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>> {
        match self.snapshots.fresh() {
            Some(fresh) => Ok(fresh),
            None => self.look(),
        }
    }

    /// A new snapshot.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn look(&self) -> Result<Arc<Snapshot>> {
        let (database, spool) = (self.database(), self.spool());
        let taken = snapshot::take(
            &self.history()?,
            &self.chains,
            database.as_ref(),
            spool.as_ref(),
        )?;
        Ok(self.snapshots.put(taken))
    }

    /// The spool of jobs; `None` if there is none.
    pub(crate) fn spool(&self) -> Option<Spool> {
        if !self.options.spool.is_dir() {
            return None;
        }
        Spool::open(&self.options.spool)
            .inspect_err(|error| tracing::warn!("the spool cannot be read: {error}"))
            .ok()
    }

    /// The spool of jobs.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn require_spool(&self) -> Result<Spool> {
        let place = self.options.spool.display();
        self.spool().ok_or_else(|| {
            Problem::absent(format!(
                "there is no spool at {place}: `bakery watch` makes it"
            ))
        })
    }
}

/// A directory that others cannot read.
fn make_private(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}
