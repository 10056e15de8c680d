//! The place of the database: a file in the spool, or the URL of a PostgreSQL server.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{DIRECTORY, Database, Result, StoreError};

/// File name of the database.
const FILE: &str = "fleet.sqlite";
/// File with the URL of a PostgreSQL database, which replaces the file.
const URL_FILE: &str = "database.url";
/// Beginnings of URLs.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Path of the database in a spool.
pub(super) fn file(spool: &Path) -> PathBuf {
    spool.join(DIRECTORY).join(FILE)
}

fn url_file(spool: &Path) -> PathBuf {
    spool.join(DIRECTORY).join(URL_FILE)
}

/// The URL in a spool; `None` if the database is the file.
pub(super) fn url(spool: &Path) -> Result<Option<String>> {
    let path = url_file(spool);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Place { path, source }),
    }
}

/// The file in a spool that is the database, or that has its URL.
#[must_use]
pub fn database(spool: &Path) -> PathBuf {
    Some(url_file(spool))
        .filter(|url| url.exists())
        .unwrap_or_else(|| file(spool))
}

/// Makes a PostgreSQL database the one of the spool. Writes its URL to a file that only the owner
/// may read; every program that uses the spool reads the URL there.
///
/// # Errors
/// The URL is not one of PostgreSQL, the database cannot be used, or the file cannot be written.
pub fn set_url(spool: &Path, url: &str) -> Result<()> {
    if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(StoreError::Refused(
            "the URL of the fleet database begins with postgres:// or postgresql://".into(),
        ));
    }
    Database::open_url(url)?;
    let path = url_file(spool);
    let new = path.with_extension("new");
    let written = || {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new)?;
        file.write_all(format!("{url}\n").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    };
    written().map_err(|source| StoreError::Place {
        path: path.clone(),
        source,
    })
}
