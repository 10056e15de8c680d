//! Reading boots from the database.

use wire::hello::{Hello, Step};

use super::link::{Row, params};
use super::{Database, Result};
use crate::record::Boot;

/// The columns of the table `boots` that [`read`] expects.
pub(super) const COLUMNS: &str = "boots.began, boots.heard, boots.step, boots.revision, boots.target_ms, boots.why, boots.hello, boots.step_before";

/// Reads a boot from a row that has [`COLUMNS`] from column `at` on.
pub(super) fn read(row: &Row, at: usize) -> Result<Boot> {
    let step: usize = row.get::<u32>(at + 2)? as usize;
    let hello: Option<String> = row.get(at + 6)?;
    let step_before: Option<u32> = row.get(at + 7)?;
    Ok(Boot {
        began: row.get(at)?,
        heard: row.get(at + 1)?,
        step: Step::ALL.get(step).copied().unwrap_or(Step::Menu),
        revision: row.get(at + 3)?,
        target_ms: row
            .get::<Option<i64>>(at + 4)?
            .and_then(|ms| u64::try_from(ms).ok()),
        why: row.get(at + 5)?,
        hello: hello.and_then(|text| Hello::decode(text.as_bytes()).ok()),
        step_before: step_before.and_then(|step| Step::ALL.get(step as usize).copied()),
    })
}

impl Database {
    /// The boots of a machine, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn boots(&self, id: &str) -> Result<Vec<Boot>> {
        let sql = format!("SELECT {COLUMNS} FROM boots WHERE machine = ?1 ORDER BY number DESC");
        let boots = self.connection.rows(&sql, &params![id])?;
        boots.iter().map(|row| read(row, 0)).collect()
    }
}
