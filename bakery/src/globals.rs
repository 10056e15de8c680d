//! The options of every command, and the exit codes.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;

use crate::history::History;
use crate::keys::Keys;
use crate::publish::Publisher;
use crate::store::Store;

/// Options every verb understands.
#[derive(Debug, Clone, Default, Args)]
pub struct Globals {
    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// The store: a directory, or a URL such as s3://bucket/prefix [default: /var/lib/layerfs/store]
    #[arg(long, global = true, env = "BAKERY_STORE", value_name = "STORE")]
    pub store: Option<String>,
    /// The bakery's keys; beside a local store by default, as STORE.keys
    #[arg(long, global = true, env = "BAKERY_KEYS", value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// Print more on standard error (twice: debugging)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print no progress, notes and summaries of files written, only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

impl Globals {
    /// The store named by `--store` or `BAKERY_STORE`, else [`STORE_DEFAULT`].
    ///
    /// # Errors
    /// The name is empty.
    pub fn store(&self) -> anyhow::Result<&str> {
        match self.store.as_deref() {
            Some("") => Err(anyhow::anyhow!(
                "the name of the store is empty: give --store DIR, or set BAKERY_STORE=DIR"
            )),
            Some(store) => {
                crate::store::require_location(store)?;
                Ok(store)
            }
            None => Ok(STORE_DEFAULT),
        }
    }

    /// The spool that was named, else [`SPOOL_DEFAULT`] if it exists and the store is the default one.
    #[must_use]
    pub fn spool(&self, named: Option<PathBuf>) -> Option<PathBuf> {
        let standard = PathBuf::from(SPOOL_DEFAULT);
        let is_standard = self.store().is_ok_and(|store| store == STORE_DEFAULT);
        named.or_else(|| (is_standard && standard.is_dir()).then_some(standard))
    }

    /// The directory of the bakery's keys.
    ///
    /// # Errors
    /// No store was named, or it is a bucket.
    pub fn keys(&self) -> anyhow::Result<Keys> {
        Ok(Keys::locate(self.keys.as_deref(), self.store()?)?)
    }

    /// The histories of the store, read with its own keys.
    ///
    /// # Errors
    /// The store or the keys cannot be used.
    pub fn history(&self) -> anyhow::Result<History> {
        let store = Store::open(self.store()?)?;
        Ok(History::open(store, self.keys()?.anchors()?)?)
    }

    /// Opens the history like [`Globals::history`], for publishing.
    ///
    /// # Errors
    /// The store or the keys cannot be used.
    pub fn publisher(&self) -> anyhow::Result<Publisher> {
        let store = Store::open(self.store()?)?;
        Ok(Publisher::open(store, &self.keys()?)?)
    }

    /// True if progress bars may be drawn: on a terminal, and without `--quiet`.
    #[must_use]
    pub(crate) fn draws_progress(&self) -> bool {
        !self.quiet && self.verbose == 0 && std::io::stderr().is_terminal()
    }
}

/// The store of a bakery that was installed as documented.
pub(crate) const STORE_DEFAULT: &str = "/var/lib/layerfs/store";
/// The spool of a bakery that was installed as documented.
pub(crate) const SPOOL_DEFAULT: &str = "/var/lib/layerfs/spool";

/// Exit code of a negative answer.
pub(crate) const ANSWER_NO: u8 = 1;
/// Exit code of a failure.
pub(crate) const COULD_NOT: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_has_a_default_and_an_empty_name_is_refused() {
        assert_eq!(Globals::default().store().unwrap(), STORE_DEFAULT);
        let empty = Globals {
            store: Some(String::new()),
            ..Globals::default()
        };
        let message = empty.store().unwrap_err().to_string();
        assert!(
            message.contains("--store") && message.contains("BAKERY_STORE"),
            "{message}"
        );
    }
}
