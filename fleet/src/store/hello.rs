//! Storing hellos in the database.

use wire::hello::{Hello, Step};
use wire::machine::{Identity, Mac, PciCard};

use super::boot_row::{Noted, advance, note_boot};
use super::link::{Connection, params};
use super::machines::{UNTOUCHED, assignment_of};
use super::proof::{Proof, note_key};
use super::{Database, Result, judge};
use crate::record::{Assignment, Return};

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
    let noted = note_boot(work, &id, hello, now)?;
    if hello.reached() == Step::Healthy && noted != Noted::Switch {
        judge::acquit(work, &id, &hello.revision)?;
    }
    let before = judge::returned(work, &id)?;
    let returned = match noted == Noted::Menu && return_after > 0 {
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
