//! Counting machines and boots for the metrics page.

use std::collections::BTreeMap;

use super::{Database, Filter, Result};
use crate::record::State;
use wire::hello::Step;

/// Largest number of pairs of revision and state, so that invented revisions cannot inflate the
/// page.
const ROWS_MAX: usize = 512;

/// Counts of machines and boots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Machines by state and by the revision of their last boot.
    pub machines: BTreeMap<(String, State), u64>,
    /// Machines that share a UUID with others or run twice at the same time.
    pub doubtful: u64,
    /// Machines that returned to an older revision.
    pub returned: u64,
    /// Boots of the last hour by last step.
    pub boots: [u64; Step::ALL.len()],
}

impl Database {
    /// Counts machines and boots.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn census(&self, now: i64) -> Result<Census> {
        let mut census = Census::default();
        for machine in self.machines(&Filter::default(), now)? {
            census.doubtful += u64::from(machine.is_doubtful());
            census.returned += u64::from(machine.returned.is_some());
            let key = (machine.revision().to_owned(), machine.state);
            let full = census.machines.len() >= ROWS_MAX && !census.machines.contains_key(&key);
            let key = if full {
                (String::from("other"), machine.state)
            } else {
                key
            };
            *census.machines.entry(key).or_default() += 1;
        }
        let mut select = self
            .connection
            .prepare_cached("SELECT step, count(*) FROM boots WHERE heard >= ?1 GROUP BY step")?;
        let counts = select.query_map([now - 3600], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for count in counts {
            let (step, count): (u32, u32) = count?;
            if let Some(of_step) = census.boots.get_mut(step as usize) {
                *of_step = count.into();
            }
        }
        Ok(census)
    }
}
