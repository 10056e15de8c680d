//! PostgreSQL: one database for several processes on several machines.

use std::collections::HashMap;
use std::error::Error as _;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, NoTls, Statement};

use super::link::{Engine, Row, Value};
use super::{Result, StoreError};

/// Longest wait for a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Longest time for which the network may not acknowledge data.
const NETWORK_WAIT: Duration = Duration::from_secs(10);
/// Longest run time of a statement, and longest wait for a lock.
const STATEMENT_MAX_MS: u32 = 10_000;
/// Key of the lock that every writer takes: there is one writer at a time, as with SQLite.
const WRITER_LOCK: i64 = 0x6c61_7965_7266_7301;

/// A connection that opens again after a loss.
pub(super) struct PostgreSql {
    config: Config,
    client: Client,
    statements: HashMap<String, Statement>,
    /// A statement failed as one does on a connection that ends. The client may notice the end later.
    is_ending: bool,
}

impl std::fmt::Debug for PostgreSql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL has a password.
        f.debug_struct("PostgreSql").finish_non_exhaustive()
    }
}

impl PostgreSql {
    /// Connects to the database of a URL.
    pub(super) fn open(url: &str) -> Result<PostgreSql> {
        let wrong = |error: postgres::Error| {
            StoreError::Refused(format!(
                "the URL of the fleet database is not valid: {}",
                words(&error)
            ))
        };
        let mut config: Config = url.parse().map_err(wrong)?;
        if config.get_ssl_mode() == postgres::config::SslMode::Require {
            return Err(StoreError::Refused(
                "this program has no TLS for PostgreSQL: use a Unix socket (host=/run/postgresql) or a tunnel".into(),
            ));
        }
        config
            .application_name("bakery fleet")
            .connect_timeout(CONNECT_WAIT)
            .tcp_user_timeout(NETWORK_WAIT);
        let client = connect(&config)?;
        Ok(PostgreSql {
            config,
            client,
            statements: HashMap::new(),
            is_ending: false,
        })
    }

    /// The version of the schema; 0 at first.
    pub(super) fn version(&mut self) -> Result<u32> {
        self.client
            .batch_execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")?;
        let row = self
            .client
            .query_opt("SELECT version FROM schema_version", &[])?;
        let version = row.map_or(0, |row| row.get::<_, i64>(0));
        Ok(u32::try_from(version).unwrap_or(u32::MAX))
    }

    /// Runs statements without parameters, and sets the version of the schema, in the present
    /// transaction.
    pub(super) fn migrate(&mut self, steps: &[&str], version: u32) -> Result<()> {
        for step in steps {
            self.client.batch_execute(&translated(step))?;
        }
        self.client.batch_execute(&format!(
            "DELETE FROM schema_version; INSERT INTO schema_version VALUES ({version})"
        ))?;
        Ok(())
    }

    /// The prepared form of a statement; a lost connection is opened again first.
    fn prepared(&mut self, sql: &str) -> Result<Statement> {
        self.open_again()?;
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let prepared = self.client.prepare(&sql.replace('?', "$"));
        let statement = self.noted(prepared)?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Opens a lost connection again.
    fn open_again(&mut self) -> Result<()> {
        if self.client.is_closed() || self.is_ending {
            self.statements.clear();
            self.client = connect(&self.config)?;
            self.is_ending = false;
        }
        Ok(())
    }

    /// The result of a statement; notes whether the connection ends.
    fn noted<T>(&mut self, result: std::result::Result<T, postgres::Error>) -> Result<T> {
        self.is_ending |= result.as_ref().is_err_and(is_end);
        Ok(result?)
    }
}

/// True if a connection cannot be used after this error: it is not of a statement, or the server
/// ends the connection.
fn is_end(error: &postgres::Error) -> bool {
    let ends = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::DATABASE_DROPPED,
        SqlState::IDLE_SESSION_TIMEOUT,
    ];
    error.code().is_none_or(|code| ends.contains(code))
}

fn connect(config: &Config) -> Result<Client> {
    let mut client = config.connect(NoTls)?;
    client.batch_execute(&format!(
        "SET statement_timeout = {STATEMENT_MAX_MS}; SET lock_timeout = {STATEMENT_MAX_MS};
         SET client_min_messages = warning;
         CREATE SCHEMA IF NOT EXISTS fleet; SET search_path TO fleet"
    ))?;
    Ok(client)
}

/// Translates a definition of tables from SQLite to PostgreSQL. Texts compare by bytes in both.
fn translated(tables: &str) -> String {
    tables
        .replace("STRICT, WITHOUT ROWID", "")
        .replace("STRICT", "")
        .replace(
            "number INTEGER PRIMARY KEY",
            "number BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        )
        .replace("INTEGER", "BIGINT")
        .replace(" TEXT", " TEXT COLLATE \"C\"")
        .replace(") ;", ");")
}

/// An error with its causes: the error itself names only its kind.
fn words(error: &postgres::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

impl From<postgres::Error> for StoreError {
    fn from(error: postgres::Error) -> StoreError {
        match error.code() {
            Some(code) if *code == SqlState::UNIQUE_VIOLATION => StoreError::Taken,
            _ => StoreError::Failed(words(&error)),
        }
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Number(number) if *kind == Type::INT4 => {
                i32::try_from(*number)?.to_sql(kind, out)
            }
            Value::Number(number) => number.to_sql(kind, out),
            Value::Text(text) => text.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::INT4 | Type::TEXT | Type::VARCHAR)
    }

    to_sql_checked!();
}

fn value(row: &postgres::Row, at: usize) -> Result<Value> {
    let kind = row.columns().get(at).map(|column| column.type_().clone());
    let number = |number: Option<i64>| number.map_or(Value::Null, Value::Number);
    Ok(match kind {
        Some(Type::INT8) => number(row.try_get(at)?),
        Some(Type::INT4) => number(row.try_get::<_, Option<i32>>(at)?.map(i64::from)),
        Some(Type::BOOL) => number(row.try_get::<_, Option<bool>>(at)?.map(i64::from)),
        _ => row
            .try_get::<_, Option<String>>(at)?
            .map_or(Value::Null, Value::Text),
    })
}

/// The parameters in the form that the client takes.
fn given(parameters: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    parameters
        .iter()
        .map(|one| one as &(dyn ToSql + Sync))
        .collect()
}

impl Engine for PostgreSql {
    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64> {
        let statement = self.prepared(sql)?;
        let done = self.client.execute(&statement, &given(parameters));
        self.noted(done)
    }

    fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>> {
        let statement = self.prepared(sql)?;
        let rows = self.client.query(&statement, &given(parameters));
        let rows = self.noted(rows)?;
        let read = |row: &postgres::Row| {
            let columns = (0..row.len()).map(|at| value(row, at));
            columns.collect::<Result<_>>().map(Row)
        };
        rows.iter().map(read).collect()
    }

    fn begin(&mut self) -> Result<()> {
        self.open_again()?;
        let begun = format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})");
        let begun = self.client.batch_execute(&begun);
        self.noted(begun).inspect_err(|_| self.roll_back())
    }

    fn commit(&mut self) -> Result<()> {
        let committed = self.client.batch_execute("COMMIT");
        self.noted(committed)
    }

    fn roll_back(&mut self) {
        if !self.client.is_closed()
            && !self.is_ending
            && let Err(error) = self.client.batch_execute("ROLLBACK")
        {
            tracing::error!(
                "the fleet database cannot undo a transaction: {}",
                words(&error)
            );
        }
    }
}
