//! Access to the database engine: one interface, with SQLite and PostgreSQL below it.
//!
//! Statements are written once, in the SQL that both engines have. Parameters are `?1`, `?2` …;
//! columns and parameters are numbers, texts, or empty.

use std::cell::RefCell;
use std::fmt::Debug;

use super::{Result, StoreError};

/// A column or a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// No value.
    Null,
    /// A number, or a truth value.
    Number(i64),
    /// A text.
    Text(String),
}

/// A row of an answer.
#[derive(Debug, Clone)]
pub(super) struct Row(pub(super) Vec<Value>);

impl Row {
    /// The column at a place.
    ///
    /// # Errors
    /// The row has no such column, or it has another type.
    pub(super) fn get<T: Column>(&self, at: usize) -> Result<T> {
        let value = self.0.get(at).and_then(T::of);
        value.ok_or_else(|| StoreError::Failed(format!("column {at} has an unexpected type")))
    }
}

/// A type of columns.
pub(super) trait Column: Sized {
    /// Converts a value; `None` if its type is another.
    fn of(value: &Value) -> Option<Self>;
}

impl Column for i64 {
    fn of(value: &Value) -> Option<i64> {
        match value {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }
}

impl Column for u32 {
    fn of(value: &Value) -> Option<u32> {
        i64::of(value)?.try_into().ok()
    }
}

impl Column for bool {
    fn of(value: &Value) -> Option<bool> {
        Some(i64::of(value)? != 0)
    }
}

impl Column for String {
    fn of(value: &Value) -> Option<String> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl<T: Column> Column for Option<T> {
    fn of(value: &Value) -> Option<Option<T>> {
        match value {
            Value::Null => Some(None),
            value => T::of(value).map(Some),
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(number.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Value {
        Value::Text(text.clone())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// The parameters of a statement.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        [$($crate::store::link::Value::from($value)),*]
    };
}
pub(super) use params;

/// One connection to a database engine.
pub(super) trait Engine: Debug + Send {
    /// Runs a statement; returns the number of changed rows.
    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64>;

    /// Runs a query; returns all rows.
    fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>>;

    /// Begins a transaction that no other writer enters at the same time.
    fn begin(&mut self) -> Result<()>;

    /// Makes the transaction durable.
    fn commit(&mut self) -> Result<()>;

    /// Undoes the transaction.
    fn roll_back(&mut self);
}

/// A connection that several functions share.
#[derive(Debug)]
pub(super) struct Connection(RefCell<Box<dyn Engine>>);

impl Connection {
    pub(super) fn new(engine: Box<dyn Engine>) -> Connection {
        Connection(RefCell::new(engine))
    }

    /// Runs a statement; returns the number of changed rows.
    pub(super) fn execute(&self, sql: &str, parameters: &[Value]) -> Result<u64> {
        self.0.borrow_mut().execute(sql, parameters)
    }

    /// Runs a query; returns all rows.
    pub(super) fn rows(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>> {
        self.0.borrow_mut().rows(sql, parameters)
    }

    /// Runs a query; returns its first row.
    pub(super) fn row(&self, sql: &str, parameters: &[Value]) -> Result<Option<Row>> {
        Ok(self.rows(sql, parameters)?.into_iter().next())
    }

    /// Runs a query whose rows have one column.
    pub(super) fn column<T: Column>(&self, sql: &str, parameters: &[Value]) -> Result<Vec<T>> {
        let rows = self.rows(sql, parameters)?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Runs a query that always has one row with one column.
    pub(super) fn value<T: Column>(&self, sql: &str, parameters: &[Value]) -> Result<T> {
        let row = self.row(sql, parameters)?;
        row.ok_or_else(|| StoreError::Failed("a query has no answer".into()))?
            .get(0)
    }

    /// Runs `work` in one transaction: afterwards all of its changes are durable, or none exists.
    pub(super) fn transaction<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.0.borrow_mut().begin()?;
        match work() {
            Ok(done) => self.0.borrow_mut().commit().map(|()| done),
            Err(error) => {
                self.0.borrow_mut().roll_back();
                Err(error)
            }
        }
    }
}
