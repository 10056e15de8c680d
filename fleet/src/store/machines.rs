//! Reading machines, and the operator's changes to them.

use wire::machine_key::PublicKey;

use super::hello::macs_of;
use super::judge::returned;
use super::link::{Connection, Row, params};
use super::{Database, Result, StoreError, boots};
use crate::record::{Assignment, Machine, State};

/// SQL condition: the operator never named, grouped, noted or assigned the machine, accepted its key
/// or gave it values.
pub(super) const UNTOUCHED: &str = "name IS NULL AND grp IS NULL AND note = '' AND assignment IS NULL AND accepted IS NULL AND layer IS NULL";

/// Longest name of a machine or group, bytes.
const NAME_LEN_MAX: usize = 64;
/// Longest note, bytes.
const NOTE_LEN_MAX: usize = 1024;

/// The filters of a list of machines.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Machines of this group.
    pub group: Option<String>,
    /// Machines in this state.
    pub state: Option<State>,
    /// Machines without a hello for at least this many seconds.
    pub silent_s: Option<i64>,
    /// Machines whose last boot was of this revision, or of this history.
    pub revision: Option<String>,
}

fn select(tail: &str) -> String {
    format!(
        "SELECT id, name, grp, note, uuid, asset, first_seen, last_seen, address, duplicate_of, clone_seen, assignment,
           accepted, offered, forged_seen, layer, {}
         FROM machines LEFT JOIN boots ON boots.number =
           (SELECT max(number) FROM boots AS b WHERE b.machine = machines.id) {tail}",
        boots::COLUMNS
    )
}

fn read(row: &Row, now: i64) -> Result<Machine> {
    let boot = row
        .get::<Option<i64>>(16)?
        .map(|_| boots::read(row, 16))
        .transpose()?;
    let last_seen = row.get(7)?;
    let state = boot.as_ref().map_or(State::Off, |boot| {
        State::of(boot.step, boot.began, boot.heard, now)
    });
    Ok(Machine {
        id: row.get(0)?,
        name: row.get(1)?,
        group: row.get(2)?,
        note: row.get(3)?,
        uuid: row.get(4)?,
        macs: Vec::new(),
        asset: row.get(5)?,
        first_seen: row.get(6)?,
        last_seen,
        address: row.get(8)?,
        duplicate_of: row.get(9)?,
        clone_seen: row.get(10)?,
        assignment: parsed(row.get(11)?),
        key: key(row.get(12)?),
        offered: key(row.get(13)?),
        forged_seen: row.get(14)?,
        layer: row
            .get::<Option<i64>>(15)?
            .and_then(|number| u64::try_from(number).ok()),
        returned: None,
        state,
        boot,
    })
}

fn key(text: Option<String>) -> Option<PublicKey> {
    text?.parse().ok()
}

pub(super) fn parsed(text: Option<String>) -> Assignment {
    let text = text.unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// The effective assignment of a machine: its own over its group's.
pub(super) fn assignment_of(work: &Connection, id: &str) -> Result<Assignment> {
    let found = work.row(
        "SELECT machines.assignment, groups.assignment FROM machines
         LEFT JOIN groups ON groups.name = machines.grp WHERE id = ?1",
        &params![id],
    )?;
    match found {
        Some(row) => Ok(parsed(row.get(0)?).over(parsed(row.get(1)?))),
        None => Ok(Assignment::default()),
    }
}

impl Database {
    /// The machines that match a filter, sorted by name; unnamed machines last.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn machines(&self, filter: &Filter, now: i64) -> Result<Vec<Machine>> {
        let sql = select("ORDER BY name IS NULL, name, id");
        let mut machines = Vec::new();
        for row in self.connection.rows(&sql, &[])? {
            let mut machine = read(&row, now)?;
            if fits(&machine, filter, now) {
                machine.macs = macs_of(&self.connection, &machine.id)?;
                machine.returned = returned(&self.connection, &machine.id)?;
                machines.push(machine);
            }
        }
        Ok(machines)
    }

    /// Finds a machine by its name, id, UUID, network card or asset tag, or by the beginning of its
    /// id.
    ///
    /// # Errors
    /// No machine matches, or more than one.
    pub fn machine(&self, wanted: &str, now: i64) -> Result<Machine> {
        let lower = wanted.to_ascii_lowercase();
        let mac = lower
            .parse::<wire::machine::Mac>()
            .map(String::from)
            .unwrap_or_default();
        // The first kind of name with a match decides.
        let by_mac = "id IN (SELECT machine FROM macs WHERE mac = ?1)";
        let beginning = "substr(id, 1, length(CAST(?1 AS TEXT))) = ?1 AND ?1 <> ''";
        let kinds = [
            ("name = ?1", wanted.to_owned()),
            ("id = ?1", lower.clone()),
            (by_mac, mac),
            ("asset = ?1 AND asset <> ''", wanted.to_owned()),
            (beginning, lower),
        ];
        for (condition, value) in kinds {
            let sql = select(&format!("WHERE {condition}"));
            let rows = self.connection.rows(&sql, &params![value])?;
            let found = rows.iter().map(|row| read(row, now));
            let mut found: Vec<Machine> = found.collect::<Result<_>>()?;
            if found.len() > 1 {
                return Err(StoreError::Ambiguous(wanted.to_owned(), found.len()));
            }
            if let Some(mut machine) = found.pop() {
                machine.macs = macs_of(&self.connection, &machine.id)?;
                machine.returned = returned(&self.connection, &machine.id)?;
                return Ok(machine);
            }
        }
        Err(StoreError::NoMachine(wanted.to_owned()))
    }

    /// Names a machine; without a name, deletes its name.
    ///
    /// # Errors
    /// The name is not valid, or another machine has it.
    pub fn set_name(&self, id: &str, name: Option<&str>) -> Result<()> {
        name.map(|name| require_name("machine", name)).transpose()?;
        let set = self.change("UPDATE machines SET name = ?2 WHERE id = ?1", id, name);
        match set {
            Err(StoreError::Taken) => {
                let name = name.unwrap_or_default();
                Err(StoreError::Refused(format!(
                    "another machine is called {name}: `bakery machine show {name}` shows it"
                )))
            }
            set => set,
        }
    }

    /// Puts a machine into a group, or removes it from its group.
    ///
    /// # Errors
    /// The name of the group is not valid.
    pub fn set_group(&self, id: &str, group: Option<&str>) -> Result<()> {
        group
            .map(|group| require_name("group", group))
            .transpose()?;
        self.change("UPDATE machines SET grp = ?2 WHERE id = ?1", id, group)
    }

    /// Stores the operator's note about a machine.
    ///
    /// # Errors
    /// The note is too long or not one line.
    pub fn set_note(&self, id: &str, note: &str) -> Result<()> {
        if note.len() > NOTE_LEN_MAX || note.chars().any(char::is_control) {
            let text = format!("a note is one line of at most {NOTE_LEN_MAX} bytes");
            return Err(StoreError::Refused(text));
        }
        self.change(
            "UPDATE machines SET note = ?2 WHERE id = ?1",
            id,
            Some(note),
        )
    }

    /// Deletes a machine with its boots. Its next hello makes it a new machine.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn forget(&self, id: &str) -> Result<()> {
        self.connection
            .execute("DELETE FROM machines WHERE id = ?1", &params![id])?;
        // A machine with the same UUID is now the only one.
        self.connection.execute(
            "UPDATE machines SET duplicate_of = NULL WHERE duplicate_of = ?1",
            &params![id],
        )?;
        Ok(())
    }

    /// The effective assignment of a machine: its own over its group's.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn assignment(&self, id: &str) -> Result<Assignment> {
        assignment_of(&self.connection, id)
    }

    fn change(&self, sql: &str, id: &str, value: Option<&str>) -> Result<()> {
        self.connection.execute(sql, &params![id, value])?;
        Ok(())
    }
}

pub(super) fn require_name(kind: &str, name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let first = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && name.len() <= NAME_LEN_MAX && name.bytes().all(allowed) {
        return Ok(());
    }
    let name: String = name.escape_default().take(NAME_LEN_MAX).collect();
    Err(StoreError::Refused(format!(
        "'{name}' is not a valid name of a {kind}: 1 to {NAME_LEN_MAX} of A-Z a-z 0-9 . _ -, first a letter or digit"
    )))
}

fn fits(machine: &Machine, filter: &Filter, now: i64) -> bool {
    let revision = |wanted: &String| {
        let has = machine.revision();
        has == wanted || has.split('@').next() == Some(wanted)
    };
    filter
        .group
        .as_ref()
        .is_none_or(|group| machine.group.as_ref() == Some(group))
        && filter.state.is_none_or(|state| machine.state == state)
        && filter
            .silent_s
            .is_none_or(|silent| now - machine.last_seen >= silent)
        && filter.revision.as_ref().is_none_or(revision)
}
