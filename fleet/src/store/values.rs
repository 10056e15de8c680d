//! The values of machines and groups, and the keys of machines.
//!
//! `docs/FLEET.md` (F12) is the specification.

use std::collections::BTreeMap;
use std::io::Read as _;

use wire::machine_key::{PublicKey, SECRET_LEN, hex};
use wire::manifest::{MachineValue, VALUE_LEN_MAX, VALUES_MAX, is_name, sealed_name};

use super::link::{Row, params};
use super::machines::require_name;
use super::{Database, MachineOrGroup, Result, StoreError};

/// The values of a machine or a group by their names.
pub type Values = BTreeMap<String, MachineValue>;

fn refused<T>(text: String) -> Result<T> {
    Err(StoreError::Refused(text))
}

impl Database {
    /// The values of the machine or group itself.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn values(&self, whom: &MachineOrGroup) -> Result<Values> {
        let (sql, key) = match whom {
            MachineOrGroup::Machine(id) => (
                "SELECT name, value FROM machine_values WHERE machine = ?1",
                id,
            ),
            MachineOrGroup::Group(name) => {
                ("SELECT name, value FROM group_values WHERE grp = ?1", name)
            }
        };
        let read = |row: &Row| {
            let value: String = row.get(1)?;
            let value = serde_json::from_str(&value);
            let value = value.map_err(|error| StoreError::Failed(format!("a value: {error}")))?;
            Ok((row.get(0)?, value))
        };
        let rows = self.connection.rows(sql, &params![key])?;
        rows.iter().map(read).collect()
    }

    /// The values of a machine. Its own have precedence over those of its group.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn effective_values(&self, id: &str) -> Result<Values> {
        let select = "SELECT grp FROM machines WHERE id = ?1";
        let group = self
            .connection
            .column::<Option<String>>(select, &params![id])?;
        self.values_in(id, group.into_iter().next().flatten().as_deref())
    }

    /// The values that a machine would have in a group, or in none.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn values_in(&self, id: &str, group: Option<&str>) -> Result<Values> {
        let mut values = match group {
            Some(group) => self.values(&MachineOrGroup::Group(group.to_owned()))?,
            None => Values::new(),
        };
        values.extend(self.values(&MachineOrGroup::Machine(id.to_owned()))?);
        Ok(values)
    }

    /// True if a machine has a secret.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn has_secrets(&self, id: &str) -> Result<bool> {
        let values = self.values(&MachineOrGroup::Machine(id.to_owned()))?;
        Ok(values
            .values()
            .any(|value| matches!(value, MachineValue::Sealed(_))))
    }

    /// Sets a value of a machine or group; `None` deletes it.
    ///
    /// # Errors
    /// The name or the value is not valid, a group or a machine without an accepted key would get a
    /// secret, there are too many values, or the database cannot be written.
    pub fn set_value(
        &self,
        whom: &MachineOrGroup,
        name: &str,
        value: Option<&MachineValue>,
    ) -> Result<()> {
        let (table, owner, key) = match whom {
            MachineOrGroup::Machine(id) => ("machine_values", "machine", id),
            MachineOrGroup::Group(group) => {
                require_name("group", group)?;
                ("group_values", "grp", group)
            }
        };
        let Some(value) = value else {
            let sql = format!("DELETE FROM {table} WHERE {owner} = ?1 AND name = ?2");
            self.connection.execute(&sql, &params![key, name])?;
            return Ok(());
        };
        require_value(name, value)?;
        if let MachineValue::Sealed(_) = value {
            self.require_key(whom)?;
        }
        let values = self.values(whom)?;
        if values.len() >= VALUES_MAX / 2 && !values.contains_key(name) {
            return refused(format!(
                "a machine or a group has at most {} values",
                VALUES_MAX / 2
            ));
        }
        let text =
            serde_json::to_string(value).map_err(|error| StoreError::Failed(error.to_string()))?;
        let sql = format!(
            "INSERT INTO {table} ({owner}, name, value) VALUES (?1, ?2, ?3)
             ON CONFLICT ({owner}, name) DO UPDATE SET value = ?3"
        );
        self.connection.execute(&sql, &params![key, name, text])?;
        Ok(())
    }

    /// Seals a secret to the accepted key of a machine and to its name, and stores it. The plaintext
    /// is stored nowhere.
    ///
    /// # Errors
    /// The secret is empty or too long, or as of [`Database::set_value`].
    pub fn set_secret(&self, whom: &MachineOrGroup, name: &str, secret: &[u8]) -> Result<()> {
        let key = self.require_key(whom)?;
        if secret.is_empty() || secret.len() > VALUE_LEN_MAX {
            return refused(format!("a secret has 1 to {VALUE_LEN_MAX} bytes"));
        }
        let failed = |what: String| StoreError::Failed(what);
        let once = random().map_err(|error| failed(format!("/dev/urandom: {error}")))?;
        let (MachineOrGroup::Machine(owner) | MachineOrGroup::Group(owner)) = whom;
        let sealed = key.seal(&sealed_name(owner, name), secret, once);
        let sealed = sealed.map_err(|error| failed(error.to_string()))?;
        self.set_value(whom, name, Some(&MachineValue::Sealed(hex(&sealed))))
    }

    /// The accepted key of a machine.
    ///
    /// # Errors
    /// A group has no key, or the machine has none that the operator accepted.
    pub fn require_key(&self, whom: &MachineOrGroup) -> Result<PublicKey> {
        let MachineOrGroup::Machine(id) = whom else {
            return refused(
                "a secret is sealed to one machine: name each machine of the group".into(),
            );
        };
        let select = "SELECT accepted FROM machines WHERE id = ?1";
        let keys = self
            .connection
            .column::<Option<String>>(select, &params![id])?;
        let key = keys
            .into_iter()
            .next()
            .flatten()
            .and_then(|text| text.parse().ok());
        key.ok_or_else(|| {
            StoreError::Refused(format!(
                "{id} has no accepted key, so no secret can be sealed to it: `bakery machine key {id}` shows the key that it offers; a machine makes one on the disk of its cache or backup"
            ))
        })
    }

    /// Accepts the key that a machine offers, which must have this fingerprint. Secrets that are
    /// sealed to another key are deleted.
    ///
    /// # Errors
    /// The machine offers no key, or another one.
    pub fn accept_key(&self, id: &str, fingerprint: &str) -> Result<PublicKey> {
        let select = "SELECT offered FROM machines WHERE id = ?1";
        let keys = self
            .connection
            .column::<Option<String>>(select, &params![id])?;
        let Some(offered) = keys.into_iter().next().flatten() else {
            return refused(format!(
                "{id} offers no key: a machine makes one on the disk of its cache or backup, and shows it in its hellos"
            ));
        };
        let key: PublicKey = offered
            .parse()
            .map_err(|error| StoreError::Failed(format!("the key of {id}: {error}")))?;
        if key.fingerprint() != fingerprint {
            return refused(format!(
                "{id} offers a key with the fingerprint {}, not {fingerprint}: compare it with `layerfs status` on the machine",
                key.fingerprint()
            ));
        }
        self.set_key(id, Some(&offered))?;
        Ok(key)
    }

    /// Withdraws the accepted key of a machine, and deletes its secrets.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn remove_key(&self, id: &str) -> Result<()> {
        self.set_key(id, None)
    }

    fn set_key(&self, id: &str, key: Option<&str>) -> Result<()> {
        let machine = MachineOrGroup::Machine(id.to_owned());
        self.connection.transaction(|| {
            let select = "SELECT accepted FROM machines WHERE id = ?1";
            let before = self.connection.column::<Option<String>>(select, &params![id])?;
            if before.into_iter().next().flatten().as_deref() != key {
                for (name, value) in self.values(&machine)? {
                    if let MachineValue::Sealed(_) = value {
                        self.set_value(&machine, &name, None)?;
                    }
                }
            }
            let sql = "UPDATE machines SET accepted = ?2, offered = NULL, forged_seen = NULL WHERE id = ?1";
            self.connection.execute(sql, &params![id, key])?;
            Ok(())
        })
    }

    /// The ids of the machines of a group.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn machines_of(&self, group: &str) -> Result<Vec<String>> {
        let select = "SELECT id FROM machines WHERE grp = ?1 ORDER BY id";
        self.connection.column(select, &params![group])
    }

    /// Records the number of the newest values record of a machine.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn set_layer(&self, id: &str, number: u64) -> Result<()> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let sql = "UPDATE machines SET layer = ?2 WHERE id = ?1";
        self.connection.execute(sql, &params![id, number])?;
        Ok(())
    }
}

fn random() -> std::io::Result<[u8; SECRET_LEN]> {
    let mut bytes = [0; SECRET_LEN];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Refuses a value that the client cannot place.
fn require_value(name: &str, value: &MachineValue) -> Result<()> {
    if !is_name(name) {
        let name: String = name.escape_default().take(64).collect();
        return refused(format!(
            "'{name}' is not the name of a value: 1 to 64 of a-z 0-9 . _ -"
        ));
    }
    let MachineValue::Text(text) = value else {
        return match name {
            "hostname" | "locale" | "printer" => refused(format!(
                "{name} cannot be a secret: its value is written into files that everybody may read"
            )),
            _ => Ok(()),
        };
    };
    if text.len() > VALUE_LEN_MAX || text.chars().any(char::is_control) {
        return refused(format!(
            "a value is one line of at most {VALUE_LEN_MAX} bytes"
        ));
    }
    let all = |allowed: fn(char) -> bool| !text.is_empty() && text.chars().all(allowed);
    let (valid, form) = match name {
        "hostname" => (
            text.len() <= 64
                && all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
                && !text.starts_with(['-', '.']),
            "1 to 64 of A-Z a-z 0-9 - .",
        ),
        "locale" => (
            all(|c| c.is_ascii_alphanumeric() || "_.@-".contains(c)),
            "a name such as de_DE.UTF-8",
        ),
        "printer" => (
            all(|c| c.is_ascii_graphic() && !"/#\"'\\".contains(c)),
            "the name of a print queue",
        ),
        _ => (true, ""),
    };
    match valid {
        true => Ok(()),
        false => refused(format!("{name}={text}: wants {form}")),
    }
}
