//! Returns: after repeated failures of a revision a machine boots its last good revision.
//!
//! `docs/FLEET.md` (F8) is the specification.

use wire::hello::Step;
use wire::manifest::RevisionName;

use super::link::{Connection, Row, params};
use super::{Database, Result};
use crate::record::{BOOT_DEADLINE_S, Boot, Return, SILENCE_S};

/// Seconds around a power-on in which the power-ons of other machines mean a power cut.
const POWER_CUT_S: i64 = 120;
/// Smallest number of healthy machines that a power cut stops.
const POWER_CUT_MACHINES: u32 = 3;
/// Seconds without a heartbeat after which the process counts as stopped.
const HEARTBEAT_LATE_S: i64 = 60;

/// The facts about an ended boot that count for a return.
pub(super) struct Ended {
    began: i64,
    step: Step,
    revision: String,
    /// Start of the following boot.
    next: i64,
}

impl Ended {
    /// A boot that ended with the start of the next one.
    pub(super) fn of(boot: &Boot, next: i64) -> Ended {
        Ended {
            began: boot.began,
            step: boot.step,
            revision: boot.revision.clone(),
            next,
        }
    }

    fn read(row: &Row) -> Result<Ended> {
        let step: u32 = row.get(1)?;
        Ok(Ended {
            began: row.get(0)?,
            step: Step::ALL.get(step as usize).copied().unwrap_or(Step::Menu),
            revision: row.get(2)?,
            next: row.get(3)?,
        })
    }

    /// The end of the boot, or its deadline if that is earlier.
    fn over(&self) -> i64 {
        self.next.min(self.began + BOOT_DEADLINE_S)
    }
}

/// The return in force for a machine at its menu. After `after` failed boots, records a new one.
pub(super) fn judge(work: &Connection, id: &str, after: u32, now: i64) -> Result<Option<Return>> {
    let mut ended = ended(work, id, now)?;
    // The newest boot begins now.
    if !ended.is_empty() {
        ended.remove(0);
    }
    if let Some(failing) = failing(work, id, &ended, after)?
        && let Some(good) = last_good(work, id, &failing)?
    {
        let added = work.execute(
            "INSERT INTO returns (machine, revision, good, since) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (machine, revision) DO UPDATE SET good = ?3, since = ?4, lifted = NULL
             WHERE returns.lifted IS NOT NULL",
            &params![id, &failing, good.as_str(), now],
        )?;
        if added > 0 {
            tracing::error!(
                "{failing} failed on {id} {after} times: the machine returns to {good} until it has a newer revision"
            );
        }
    }
    returned(work, id)
}

/// The last return of a machine that is not lifted.
pub(super) fn returned(work: &Connection, id: &str) -> Result<Option<Return>> {
    let found = work.row(
        "SELECT revision, good, since FROM returns
         WHERE machine = ?1 AND lifted IS NULL
         ORDER BY since DESC, length(revision) DESC, revision DESC LIMIT 1",
        &params![id],
    )?;
    let read = |row: Row| {
        Ok(Return {
            from: row.get(0)?,
            to: row.get(1)?,
            since: row.get(2)?,
        })
    };
    found.map(read).transpose()
}

/// Records a heartbeat of the process.
pub(super) fn beat(work: &Connection, watch: i64, now: i64) -> Result<()> {
    let sql = "UPDATE watches SET heard = ?2 WHERE number = ?1";
    work.execute(sql, &params![watch, now])?;
    Ok(())
}

/// Ends the returns of a machine from `healthy`, or from an older revision of the same history: the
/// machine runs that revision, or a newer one.
pub(super) fn acquit(work: &Connection, id: &str, healthy: &str) -> Result<()> {
    let Ok(healthy) = healthy.parse::<RevisionName>() else {
        return Ok(());
    };
    let select = "SELECT revision FROM returns WHERE machine = ?1";
    for failed in work.column::<String>(select, &params![id])? {
        let name = failed.parse::<RevisionName>();
        let is_over =
            |name: RevisionName| name.name == healthy.name && name.revision <= healthy.revision;
        if name.is_ok_and(is_over) {
            let sql = "DELETE FROM returns WHERE machine = ?1 AND revision = ?2";
            work.execute(sql, &params![id, failed])?;
        }
    }
    Ok(())
}

/// The boots of a machine since its last lifted return, newest first; the present one included.
/// Neither switches, nor boots that were at another revision before they reached the target.
fn ended(work: &Connection, id: &str, now: i64) -> Result<Vec<Ended>> {
    let rows = work.rows(
        "SELECT began, step, revision, next FROM (
           SELECT number, began, step, revision, step_before,
             coalesce(lead(began) OVER (ORDER BY number), CAST(?2 AS BIGINT)) AS next,
             lead(step_before) OVER (ORDER BY number) AS switched
           FROM boots WHERE machine = ?1
           AND began > (SELECT coalesce(max(lifted), 0) FROM returns WHERE machine = ?1)) AS all_boots
         WHERE step_before IS NULL AND (switched IS NULL OR step >= ?3) ORDER BY number DESC",
        &params![id, now, Step::Target as i64],
    )?;
    rows.iter().map(Ended::read).collect()
}

/// The revision whose last `after` boots all failed, if there is one.
fn failing(work: &Connection, id: &str, ended: &[Ended], after: u32) -> Result<Option<String>> {
    let mut failed = 0;
    let mut revision = None;
    for boot in ended {
        // The boot did not fetch everything, or its revision is unknown.
        if boot.step < Step::Initramfs || boot.revision.is_empty() {
            continue;
        }
        if *revision.get_or_insert(&boot.revision) != &boot.revision || boot.step == Step::Healthy {
            return Ok(None);
        }
        if is_excused(work, id, boot)? {
            continue;
        }
        failed += 1;
        if failed >= after {
            return Ok(revision.cloned());
        }
    }
    Ok(None)
}

/// True if a failed boot has another explanation: the fleet process did not run, or a power cut
/// stopped healthy machines at the same time.
pub(super) fn is_excused(work: &Connection, id: &str, boot: &Ended) -> Result<bool> {
    let watched: bool = work.value(
        "SELECT EXISTS (SELECT 1 FROM watches WHERE began <= ?1 AND heard >= ?2)",
        &params![boot.began, boot.over() - HEARTBEAT_LATE_S],
    )?;
    if !watched {
        return Ok(true);
    }
    let gone_down: u32 = work.value(
        "SELECT count(DISTINCT next.machine) FROM boots AS next
         WHERE next.machine <> ?1 AND next.began BETWEEN ?2 AND ?3 AND next.step_before IS NULL
         AND EXISTS (SELECT 1 FROM boots AS was WHERE was.machine = next.machine
           AND was.number = (SELECT max(number) FROM boots WHERE machine = next.machine AND number < next.number)
           AND was.step = ?4 AND was.heard >= ?5)",
        &params![
            id,
            boot.next - POWER_CUT_S,
            boot.next + POWER_CUT_S,
            Step::Healthy as i64,
            boot.next - SILENCE_S
        ],
    )?;
    Ok(gone_down >= POWER_CUT_MACHINES)
}

/// The last healthy revision on this machine that is of the same history and older than the failing
/// one.
fn last_good(work: &Connection, id: &str, failing: &str) -> Result<Option<String>> {
    let Ok(failing) = failing.parse::<RevisionName>() else {
        return Ok(None);
    };
    let select = "SELECT DISTINCT revision FROM boots
         WHERE machine = ?1 AND step = ?2 AND step_before IS NULL";
    let healthy = work.column::<String>(select, &params![id, Step::Healthy as i64])?;
    let older = healthy.into_iter().filter_map(|revision| {
        let name: RevisionName = revision.parse().ok()?;
        let is_older = name.name == failing.name && name.revision < failing.revision;
        is_older.then_some((name.revision, revision))
    });
    Ok(older.max().map(|(_, revision)| revision))
}

impl Database {
    /// Lifts the returns of a machine: it boots its assignment again, and its earlier boots no
    /// longer count.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn retry(&self, id: &str, now: i64) -> Result<()> {
        let sql = "UPDATE returns SET lifted = ?2 WHERE machine = ?1 AND lifted IS NULL";
        self.connection.execute(sql, &params![id, now])?;
        Ok(())
    }

    /// Records the start of the process; returns the number of the watch for
    /// [`FleetMessage::Beat`](super::FleetMessage).
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn begin_watch(&self, now: i64) -> Result<i64> {
        let sql = "INSERT INTO watches (began, heard) VALUES (?1, ?1) RETURNING number";
        self.connection.value(sql, &params![now])
    }
}
