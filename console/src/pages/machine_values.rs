//! The values and the key of a machine, on its page.

use bakery::publish::RingReason;
use fleet::record::Machine;
use fleet::store::{Database, MachineOrGroup};
use wire::manifest::{MachineValue, RingAction};

use crate::problem::{Problem, Result};
use crate::text::visible;
use crate::web::{Form, Visitor};

/// The values and the key of a machine.
pub(super) struct ValuesCard {
    /// Name, text (`None`: a secret), and whether it is of the group.
    pub(super) values: Vec<(String, Option<String>, bool)>,
    /// The number of the newest record.
    pub(super) record: Option<u64>,
    /// The fingerprint of the accepted key.
    pub(super) accepted: Option<String>,
    /// The fingerprint of the key that the machine offers.
    pub(super) offered: Option<String>,
}

impl ValuesCard {
    /// Reads the values of a machine.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(super) fn of(database: &Database, machine: &Machine) -> Result<ValuesCard> {
        let own = database.values(&MachineOrGroup::Machine(machine.id.clone()))?;
        let effective = database.effective_values(&machine.id)?.into_iter();
        let values = effective.map(|(name, value)| {
            let of_group = !own.contains_key(&name);
            match value {
                MachineValue::Text(text) => (name, Some(visible(text.as_bytes())), of_group),
                MachineValue::Sealed(_) => (name, None, of_group),
            }
        });
        Ok(ValuesCard {
            values: values.collect(),
            record: machine.layer,
            accepted: machine.key.as_ref().map(|key| key.fingerprint()),
            offered: machine.offered.as_ref().map(|key| key.fingerprint()),
        })
    }
}

/// Changes the values or the key of a machine, and publishes its values; without a key to sign them,
/// nothing is changed.
///
/// # Errors
/// The value or the fingerprint is not valid, the console may not sign, or a store fails.
pub(super) fn change(
    visitor: &Visitor,
    database: &Database,
    machine: &str,
    verb: &str,
    form: &Form,
) -> Result<()> {
    let publisher = visitor.app.publisher(false)?;
    let whom = MachineOrGroup::Machine(machine.to_owned());
    let (name, text) = (form.get("name"), form.get("value"));
    match verb {
        "value" if form.has("secret") => database.set_secret(&whom, name, text.as_bytes())?,
        "value" => {
            let value = MachineValue::Text(text.to_owned());
            database.set_value(&whom, name, Some(&value))?;
        }
        "value-delete" => database.set_value(&whom, name, None)?,
        "key-accept" => database.accept_key(machine, text.trim()).map(drop)?,
        "key-remove" => database.remove_key(machine)?,
        _ => return Err(Problem::bad("there is no such action")),
    }
    let reason = RingReason::new(
        RingAction::Policy,
        visitor.name(),
        &format!("{verb} {name}"),
    );
    publisher.publish_values_of(database, &[machine.to_owned()], &reason)?;
    Ok(())
}

/// Puts machines into a group, with the group's values, which are signed; without a key to sign
/// them, nothing is changed.
///
/// # Errors
/// The name of the group is not valid, the console may not sign, or a store fails.
pub(super) fn join(
    visitor: &Visitor,
    database: &Database,
    machines: &[Machine],
    form: &Form,
) -> Result<()> {
    let group = Some(form.get("value")).filter(|text| !text.is_empty());
    let mut affected = Vec::new();
    for machine in machines {
        if database.values_in(&machine.id, group)? != database.effective_values(&machine.id)? {
            affected.push(machine.id.clone());
        }
    }
    let publisher = match affected.is_empty() {
        true => None,
        false => Some(visitor.app.publisher(false)?),
    };
    for machine in machines {
        database.set_group(&machine.id, group)?;
    }
    if let Some(publisher) = publisher {
        let message = format!("group {}", group.unwrap_or("none"));
        let reason = RingReason::new(RingAction::Policy, visitor.name(), &message);
        publisher.publish_values_of(database, &affected, &reason)?;
    }
    Ok(())
}
