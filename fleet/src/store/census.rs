//! Counting machines and boots for the metrics page.

use std::collections::BTreeMap;

use super::link::params;
use super::{Database, Filter, Result};
use crate::record::{Assignment, State};
use wire::hello::Step;
use wire::manifest::DEFAULT_RING;

/// Largest number of triples of revision, ring and state, so that invented revisions cannot inflate the
/// page.
const ROWS_MAX: usize = 512;

/// Counts of machines and boots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Machines by the revision of their last boot, by ring, and by state.
    pub machines: BTreeMap<(String, String, State), u64>,
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
        let groups: BTreeMap<String, Assignment> = self.groups()?.into_iter().collect();
        for machine in self.machines(&Filter::default(), now)? {
            census.doubtful += u64::from(machine.is_doubtful());
            census.returned += u64::from(machine.returned.is_some());
            let of_group = machine.group.as_ref().and_then(|group| groups.get(group));
            let own = machine.assignment.ring.as_ref();
            let ring = own.or_else(|| of_group?.ring.as_ref());
            let ring = ring.map_or(DEFAULT_RING, String::as_str).to_owned();
            let key = (machine.revision().to_owned(), ring, machine.state);
            let full = census.machines.len() >= ROWS_MAX && !census.machines.contains_key(&key);
            let key = if full {
                (String::from("other"), String::from("other"), machine.state)
            } else {
                key
            };
            *census.machines.entry(key).or_default() += 1;
        }
        let counted = "SELECT step, count(*) FROM boots WHERE heard >= ?1 AND step_before IS NULL GROUP BY step";
        for row in self.connection.rows(counted, &params![now - 3600])? {
            let (step, count): (u32, u32) = (row.get(0)?, row.get(1)?);
            if let Some(of_step) = census.boots.get_mut(step as usize) {
                *of_step = count.into();
            }
        }
        Ok(census)
    }
}
