//! SQLite: one file in the spool, with a write-ahead log.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, ToSql, params_from_iter};

use super::link::{Engine, Row, Value};
use super::{Result, StoreError};

/// Longest wait for the write lock of another process.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// Size of SQLite's page cache, KiB.
const CACHE_KIB: u32 = 4096;

/// An open file.
#[derive(Debug)]
pub(super) struct Sqlite(rusqlite::Connection);

impl Sqlite {
    /// Opens the file; creates it if it does not exist.
    pub(super) fn open(path: &Path) -> Result<Sqlite> {
        let connection = rusqlite::Connection::open(path)?;
        connection.busy_timeout(BUSY_WAIT)?;
        connection.execute_batch(&format!(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-{CACHE_KIB};"
        ))?;
        Ok(Sqlite(connection))
    }

    /// The version of the schema.
    pub(super) fn version(&self) -> Result<u32> {
        let version = self
            .0
            .query_row("PRAGMA user_version", [], |row| row.get(0));
        Ok(version?)
    }

    /// Runs statements without parameters, and sets the version of the schema, in the present
    /// transaction.
    pub(super) fn migrate(&self, steps: &[&str], version: u32) -> Result<()> {
        for step in steps {
            self.0.execute_batch(step)?;
        }
        self.0.pragma_update(None, "user_version", version)?;
        Ok(())
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Number(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

fn value(found: ValueRef<'_>) -> Value {
    match found {
        ValueRef::Integer(number) => Value::Number(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Value::Null,
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => StoreError::Taken,
            _ => StoreError::Failed(error.to_string()),
        }
    }
}

impl Engine for Sqlite {
    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64> {
        let mut statement = self.0.prepare_cached(sql)?;
        Ok(statement.execute(params_from_iter(parameters))? as u64)
    }

    fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>> {
        let mut statement = self.0.prepare_cached(sql)?;
        let count = statement.column_count();
        let rows = statement.query_map(params_from_iter(parameters), |row| {
            let columns = (0..count).map(|at| row.get_ref(at).map(value));
            columns.collect::<rusqlite::Result<_>>().map(Row)
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn begin(&mut self) -> Result<()> {
        Ok(self.0.execute_batch("BEGIN IMMEDIATE")?)
    }

    fn commit(&mut self) -> Result<()> {
        let done = self.0.execute_batch("COMMIT");
        if done.is_err() {
            self.roll_back();
        }
        Ok(done?)
    }

    fn roll_back(&mut self) {
        if !self.0.is_autocommit()
            && let Err(error) = self.0.execute_batch("ROLLBACK")
        {
            tracing::error!("the fleet database cannot undo a transaction: {error}");
        }
    }
}
