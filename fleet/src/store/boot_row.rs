//! Writing boots, and switches of running machines, to the database.

use wire::hello::{Hello, Step};

use super::Result;
use super::link::{Connection, Row, params};
use crate::record::BOOTS_KEPT;

/// Seconds within which a second request for the menu belongs to the same boot.
const MENU_AGAIN_S: i64 = 120;
/// Longest time from the menu of a boot to its first hello, seconds. A slow network needs long to
/// fetch an initramfs.
const MENU_TO_MOUNT_S: i64 = 3600;
/// Largest delay of a hello of an earlier boot, seconds. A later one means that two machines run.
pub(super) const LATE_S: i64 = 60;

/// Some columns of the table `boots`.
pub(super) struct BootRow {
    number: i64,
    pub(super) boot: String,
    pub(super) began: i64,
    step: i64,
}

pub(super) fn last_row(work: &Connection, id: &str) -> Result<Option<BootRow>> {
    let row = work.row(
        "SELECT number, boot, began, step FROM boots WHERE machine = ?1 ORDER BY number DESC LIMIT 1",
        &params![id],
    )?;
    let read = |row: Row| {
        Ok(BootRow {
            number: row.get(0)?,
            boot: row.get(1)?,
            began: row.get(2)?,
            step: row.get(3)?,
        })
    };
    row.map(read).transpose()
}

/// The row in which a hello is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// A boot that begins: the hello is a request for the menu.
    Menu,
    /// A boot that runs.
    Boot,
    /// A switch to another revision.
    Switch,
}

/// Records a hello in its boot, or in the switch of it.
pub(super) fn note_boot(work: &Connection, id: &str, hello: &Hello, now: i64) -> Result<Noted> {
    let last = last_row(work, id)?;
    if hello.boot.is_empty() {
        let again = last.filter(|row| {
            row.boot.is_empty() && row.step == Step::Menu as i64 && now - row.began <= MENU_AGAIN_S
        });
        return match again {
            Some(row) => write_boot(work, row.number, hello, now).map(|()| Noted::Menu),
            None => new_boot(work, id, hello, now).map(|()| Noted::Menu),
        };
    }
    let known = running(work, id, &hello.boot)?;
    match (known, last) {
        (Some(known), last) => {
            let other = last.filter(|row| row.number != known.number && now - row.began > LATE_S);
            if other.is_some_and(|row| row.step >= Step::Mounted as i64) {
                tracing::warn!("two machines run as {id} at once: one is a copy of the other");
                let sql = "UPDATE machines SET clone_seen = ?2 WHERE id = ?1";
                work.execute(sql, &params![id, now])?;
            }
            return note_running(work, id, &known, hello, now);
        }
        (None, Some(row)) if row.boot.is_empty() && now - row.began <= MENU_TO_MOUNT_S => {
            write_boot(work, row.number, hello, now)?;
        }
        (None, _) => new_boot(work, id, hello, now)?,
    }
    Ok(Noted::Boot)
}

/// The row of a boot that runs: the boot, or its switch.
struct RunningRow {
    number: i64,
    step: i64,
    revision: String,
    is_switch: bool,
}

fn running(work: &Connection, id: &str, boot: &str) -> Result<Option<RunningRow>> {
    let row = work.row(
        "SELECT number, step, revision, step_before FROM boots
         WHERE machine = ?1 AND boot = ?2 ORDER BY number DESC LIMIT 1",
        &params![id, boot],
    )?;
    let read = |row: Row| {
        Ok(RunningRow {
            number: row.get(0)?,
            step: row.get(1)?,
            revision: row.get(2)?,
            is_switch: row.get::<Option<i64>>(3)?.is_some(),
        })
    };
    row.map(read).transpose()
}

/// Records a hello of a boot that is known. A machine whose root is mounted and that now shows
/// another revision has switched: that is a row of its own, which the next switch takes.
fn note_running(
    work: &Connection,
    id: &str,
    known: &RunningRow,
    hello: &Hello,
    now: i64,
) -> Result<Noted> {
    let is_other = !hello.revision.is_empty() && hello.revision != known.revision;
    let switches = is_other && known.step >= Step::Mounted as i64;
    let number = match (switches, known.is_switch) {
        (true, false) => work.value(
            "INSERT INTO boots (machine, began, heard, step, step_before)
             VALUES (?1, ?2, ?2, ?3, ?3) RETURNING number",
            &params![id, now, known.step],
        )?,
        (true, true) => {
            let sql = "UPDATE boots SET began = ?2, step_before = step WHERE number = ?1";
            work.execute(sql, &params![known.number, now])?;
            known.number
        }
        (false, _) => known.number,
    };
    write_boot(work, number, hello, now)?;
    if number != known.number {
        forget_old(work, id)?;
    }
    Ok(match switches || known.is_switch {
        true => Noted::Switch,
        false => Noted::Boot,
    })
}

fn new_boot(work: &Connection, id: &str, hello: &Hello, now: i64) -> Result<()> {
    // The first hello may arrive long after the start of the kernel.
    let up = i64::try_from(hello.uptime_s).unwrap_or(0);
    let number = work.value(
        "INSERT INTO boots (machine, began, heard, step) VALUES (?1, ?2, ?3, 0) RETURNING number",
        &params![id, now.saturating_sub(up), now],
    )?;
    write_boot(work, number, hello, now)?;
    forget_old(work, id)
}

/// Deletes the oldest boots of a machine that has too many.
fn forget_old(work: &Connection, id: &str) -> Result<()> {
    work.execute(
        "DELETE FROM boots WHERE machine = ?1 AND number <= (
            SELECT number FROM boots WHERE machine = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        &params![id, BOOTS_KEPT],
    )?;
    Ok(())
}

/// Updates a boot. A hello below `target` never lowers the step of the boot.
fn write_boot(work: &Connection, number: i64, hello: &Hello, now: i64) -> Result<()> {
    let reached = hello.reached() as i64;
    let said = serde_json::to_string(hello).ok();
    // For a running machine the last hello counts: a healthy machine can become degraded.
    work.execute(
        "UPDATE boots SET heard = ?2,
         step = CASE WHEN CAST(?3 AS BIGINT) >= CAST(?8 AS BIGINT) OR step < ?3 THEN ?3 ELSE step END,
         boot = CASE WHEN ?4 = '' THEN boot ELSE ?4 END,
         revision = CASE WHEN ?5 = '' THEN revision ELSE ?5 END,
         target_ms = CASE WHEN step_before IS NULL THEN coalesce(target_ms, ?6) END, why = ?7, hello = ?9
         WHERE number = ?1",
        &params![
            number,
            now,
            reached,
            &hello.boot,
            &hello.revision,
            hello.target_ms.and_then(|ms| i64::try_from(ms).ok()),
            &hello.why,
            Step::Target as i64,
            said,
        ],
    )?;
    Ok(())
}

/// Advances the last boot of a machine to the step of a fetched file.
pub(super) fn advance(
    work: &Connection,
    id: &str,
    step: Step,
    revision: &str,
    now: i64,
) -> Result<()> {
    let row = last_row(work, id)?;
    let Some(row) = row.filter(|row| row.boot.is_empty() && row.step < step as i64) else {
        return Ok(());
    };
    let sql = "UPDATE boots SET step = ?2, heard = ?3, revision = ?4 WHERE number = ?1";
    work.execute(sql, &params![row.number, step as i64, now, revision])?;
    let sql = "UPDATE machines SET last_seen = ?2 WHERE id = ?1";
    work.execute(sql, &params![id, now])?;
    Ok(())
}
