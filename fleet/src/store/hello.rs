//! Storing hellos in the database.

use wire::hello::{Hello, Step};
use wire::machine::{Identity, Mac, PciCard};

use super::link::{Connection, Row, params};
use super::machines::{UNTOUCHED, assignment_of};
use super::proof::{Proof, note_key};
use super::{Database, Result, judge};
use crate::record::{Assignment, BOOTS_KEPT, Return};

/// Seconds within which a second request for the menu belongs to the same boot.
const MENU_AGAIN_S: i64 = 120;
/// Longest time from the menu of a boot to its first hello, seconds. A slow network needs long to
/// fetch an initramfs.
const MENU_TO_MOUNT_S: i64 = 3600;
/// Largest delay of a hello of an earlier boot, seconds. A later one means that two machines run.
pub(super) const LATE_S: i64 = 60;

/// A message for the database.
#[derive(Debug, Clone)]
pub enum FleetMessage {
    /// A hello of a machine.
    Hello {
        /// The hello of the machine.
        hello: Box<Hello>,
        /// The address of the sender.
        from: String,
        /// The proof of the sender.
        proof: Proof,
    },
    /// A machine fetched a file of its menu.
    Fetched {
        /// The machine's id.
        machine: String,
        /// [`Step::Kernel`] or [`Step::Initramfs`].
        step: Step,
        /// The revision of the file.
        revision: String,
    },
    /// A heartbeat of the process; see [`Database::begin_watch`].
    Beat {
        /// The number of the watch.
        watch: i64,
    },
}

/// The facts about a machine after its message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineFacts {
    /// The machine's id.
    pub machine: String,
    /// The machine's assignment over that of its group.
    pub assignment: Assignment,
    /// The return in force.
    pub returned: Option<Return>,
    /// True if this message caused the return.
    pub returns_now: bool,
    /// The number of its newest values record.
    pub layer: Option<u64>,
    /// The card that it boots from, if its last boot mounted a root with that card.
    pub card: Option<PciCard>,
    /// True if the hello was refused for its proof.
    pub refused: bool,
}

impl Database {
    /// Stores all messages in one transaction: afterwards all of them are on the disk, or none.
    ///
    /// # Errors
    /// The database cannot be written; no message is stored.
    pub fn hear(&mut self, heard: &[FleetMessage], now: i64) -> Result<Vec<MachineFacts>> {
        let work = &self.connection;
        let take = |one: &FleetMessage| match one {
            FleetMessage::Hello { hello, from, proof } => {
                let found = find(work, &hello.machine)?;
                if let Some(refused) = self.refuse(&found, hello, *proof, now)? {
                    return Ok(refused);
                }
                let bounds = (self.machines_max, self.return_after);
                let known = take_hello(work, found, hello, from, now, bounds)?;
                note_key(work, &known.machine, hello, *proof)?;
                Ok(known)
            }
            FleetMessage::Fetched {
                machine,
                step,
                revision,
            } => advance(work, machine, *step, revision, now).map(|()| MachineFacts::default()),
            FleetMessage::Beat { watch } => {
                judge::beat(work, *watch, now).map(|()| MachineFacts::default())
            }
        };
        work.transaction(|| heard.iter().map(take).collect())
    }
}

fn take_hello(
    work: &Connection,
    found: Found,
    hello: &Hello,
    from: &str,
    now: i64,
    (machines_max, return_after): (u64, u32),
) -> Result<MachineFacts> {
    let id = match found {
        Found::Machine(id) => id,
        Found::Stranger { duplicate_of } => {
            make_room(work, machines_max)?;
            insert(work, &hello.machine, duplicate_of, now)?
        }
    };
    let Identity { uuid, macs, asset } = &hello.machine;
    work.execute(
        "UPDATE machines SET last_seen = ?2, address = ?3, uuid = coalesce(uuid, ?4),
         asset = CASE WHEN ?5 = '' THEN asset ELSE ?5 END WHERE id = ?1",
        &params![&id, now, from, uuid.map(String::from), asset],
    )?;
    for mac in macs {
        let sql = "INSERT INTO macs (mac, machine) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        work.execute(sql, &params![mac.to_string(), &id])?;
    }
    let begins = note_boot(work, &id, hello, now)?;
    if hello.reached() == Step::Healthy {
        judge::acquit(work, &id, &hello.revision)?;
    }
    let before = judge::returned(work, &id)?;
    let returned = match begins && return_after > 0 {
        true => judge::judge(work, &id, return_after, now)?,
        false => before.clone(),
    };
    let assignment = assignment_of(work, &id)?;
    let select = "SELECT layer FROM machines WHERE id = ?1";
    let layer = work.value::<Option<i64>>(select, &params![&id])?;
    Ok(MachineFacts {
        layer: layer.and_then(|number| u64::try_from(number).ok()),
        refused: false,
        card: known_card(work, &id, hello)?,
        machine: id,
        assignment,
        returns_now: returned != before,
        returned,
    })
}

/// The result of the search for an identity.
pub(super) enum Found {
    Machine(String),
    Stranger { duplicate_of: Option<String> },
}

/// Finds the machine of an identity: by its UUID in either byte order and a matching card, else by
/// a card.
fn find(work: &Connection, identity: &Identity) -> Result<Found> {
    let Some(uuid) = identity.uuid else {
        let mac = identity.macs.first().copied();
        let by_mac = mac
            .map(|mac| with_mac(work, mac, false))
            .transpose()?
            .flatten();
        return Ok(by_mac.map_or(Found::Stranger { duplicate_of: None }, Found::Machine));
    };
    let select = "SELECT id FROM machines WHERE uuid IN (?1, ?2) ORDER BY first_seen, id";
    let pair = params![uuid.to_string(), uuid.swapped().to_string()];
    let same = work.column::<String>(select, &pair)?;
    for id in &same {
        let macs = macs_of(work, id)?;
        let shares = identity
            .macs
            .iter()
            .any(|mac| macs.contains(&mac.to_string()));
        if shares || macs.is_empty() || identity.macs.is_empty() {
            return Ok(Found::Machine(id.clone()));
        }
    }
    if let Some(first) = same.into_iter().next() {
        return Ok(Found::Stranger {
            duplicate_of: Some(first),
        });
    }
    // A loader without the UUID may have announced the machine before.
    for mac in &identity.macs {
        if let Some(id) = with_mac(work, *mac, true)? {
            return Ok(Found::Machine(id));
        }
    }
    Ok(Found::Stranger { duplicate_of: None })
}

/// The machine with this card and the newest last hello; with `nameless`, only one without a UUID.
fn with_mac(work: &Connection, mac: Mac, nameless: bool) -> Result<Option<String>> {
    let only = if nameless { "AND uuid IS NULL" } else { "" };
    let sql = format!(
        "SELECT id FROM machines JOIN macs ON machine = id WHERE mac = ?1 {only} ORDER BY last_seen DESC LIMIT 1"
    );
    let ids = work.column(&sql, &params![mac.to_string()])?;
    Ok(ids.into_iter().next())
}

pub(super) fn macs_of(work: &Connection, id: &str) -> Result<Vec<String>> {
    work.column(
        "SELECT mac FROM macs WHERE machine = ?1 ORDER BY mac",
        &params![id],
    )
}

fn insert(
    work: &Connection,
    identity: &Identity,
    duplicate_of: Option<String>,
    now: i64,
) -> Result<String> {
    let mac = identity
        .macs
        .first()
        .map(|mac| mac.to_string().replace(':', "-"));
    let uuid = identity.uuid.map(String::from);
    let id = match (&uuid, &duplicate_of, mac) {
        (Some(uuid), None, _) => uuid.clone(),
        (Some(uuid), Some(_), Some(mac)) => format!("{uuid}_{mac}"),
        (Some(uuid), Some(_), None) => uuid.clone(),
        (None, _, mac) => mac.unwrap_or_default(),
    };
    if let Some(first) = &duplicate_of {
        tracing::warn!(
            "the machine {id} has the UUID of {first} but other network cards: one of them is a copy, or its card was replaced"
        );
    }
    work.execute(
        "INSERT INTO machines (id, uuid, duplicate_of, first_seen, last_seen) VALUES (?1, ?2, ?3, ?4, ?4)
         ON CONFLICT DO NOTHING",
        &params![&id, uuid, duplicate_of, now],
    )?;
    Ok(id)
}

/// Makes room for one more machine: deletes the one with the oldest last hello among those that the
/// operator never changed.
fn make_room(work: &Connection, machines_max: u64) -> Result<()> {
    let count: u32 = work.value("SELECT count(*) FROM machines", &[])?;
    if u64::from(count) >= machines_max {
        let sql = format!(
            "DELETE FROM machines WHERE id = (SELECT id FROM machines WHERE {UNTOUCHED} ORDER BY last_seen LIMIT 1)"
        );
        work.execute(&sql, &[])?;
    }
    Ok(())
}

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

/// Records a hello in its boot; true if the hello is a request for the menu, which begins a boot.
fn note_boot(work: &Connection, id: &str, hello: &Hello, now: i64) -> Result<bool> {
    let last = last_row(work, id)?;
    if hello.boot.is_empty() {
        let again = last.filter(|row| {
            row.boot.is_empty() && row.step == Step::Menu as i64 && now - row.began <= MENU_AGAIN_S
        });
        return match again {
            Some(row) => write_boot(work, row.number, hello, now).map(|()| true),
            None => new_boot(work, id, hello, now).map(|()| true),
        };
    }
    let select =
        "SELECT number FROM boots WHERE machine = ?1 AND boot = ?2 ORDER BY number DESC LIMIT 1";
    let known = work.column::<i64>(select, &params![id, &hello.boot])?.pop();
    let noted = match (known, last) {
        (Some(number), last) => {
            let other = last.filter(|row| row.number != number && now - row.began > LATE_S);
            if other.is_some_and(|row| row.step >= Step::Mounted as i64) {
                tracing::warn!("two machines run as {id} at once: one is a copy of the other");
                let sql = "UPDATE machines SET clone_seen = ?2 WHERE id = ?1";
                work.execute(sql, &params![id, now])?;
            }
            write_boot(work, number, hello, now)
        }
        (None, Some(row)) if row.boot.is_empty() && now - row.began <= MENU_TO_MOUNT_S => {
            write_boot(work, row.number, hello, now)
        }
        (None, _) => new_boot(work, id, hello, now),
    };
    noted.map(|()| false)
}

fn new_boot(work: &Connection, id: &str, hello: &Hello, now: i64) -> Result<()> {
    // The first hello may arrive long after the start of the kernel.
    let up = i64::try_from(hello.uptime_s).unwrap_or(0);
    let number = work.value(
        "INSERT INTO boots (machine, began, heard, step) VALUES (?1, ?2, ?3, 0) RETURNING number",
        &params![id, now.saturating_sub(up), now],
    )?;
    write_boot(work, number, hello, now)?;
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
         target_ms = coalesce(target_ms, ?6), why = ?7, hello = ?9
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

/// The PCI card with the address in a request for the menu. `None`: the last boot of the machine did
/// not mount its root with this card, so the card may have been replaced by one of another kind.
fn known_card(work: &Connection, id: &str, hello: &Hello) -> Result<Option<PciCard>> {
    let (Step::Menu, Some(mac)) = (hello.step, hello.machine.macs.first()) else {
        return Ok(None);
    };
    let select = "SELECT step, hello FROM boots WHERE machine = ?1 AND step > ?2 ORDER BY number DESC LIMIT 1";
    let row = work.row(select, &params![id, Step::Menu as i64])?;
    let Some(row) = row.filter(|row| {
        row.get::<i64>(0)
            .is_ok_and(|step| step >= Step::Mounted as i64)
    }) else {
        return Ok(None);
    };
    let text: Option<String> = row.get(1)?;
    let said = text.and_then(|text| Hello::decode(text.as_bytes()).ok());
    let card = said.and_then(|said| said.card);
    Ok(card.filter(|card| card.mac == *mac).map(|card| card.pci))
}

/// Advances the last boot of a machine to the step of a fetched file.
fn advance(work: &Connection, id: &str, step: Step, revision: &str, now: i64) -> Result<()> {
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
