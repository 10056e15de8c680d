//! Assignments of machines and groups.

use wire::machine::Mac;
use wire::manifest::{DEFAULT_RING, ProfileName};

use super::link::{Row, params};
use super::machines::require_name;
use super::{Database, Result, StoreError};
use crate::record::Assignment;

/// Longest kernel parameters of an assignment, bytes. With those of a revision (2048) they stay
/// below the kernel's limit for a command line.
const PARAMETERS_LEN_MAX: usize = 1024;

/// One machine, or one group of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineOrGroup {
    /// The machine with this id.
    Machine(String),
    /// The group with this name.
    Group(String),
}

impl Database {
    /// The assignment of the machine or group itself.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn assigned(&self, whom: &MachineOrGroup) -> Result<Assignment> {
        let (sql, key) = match whom {
            MachineOrGroup::Machine(id) => ("SELECT assignment FROM machines WHERE id = ?1", id),
            MachineOrGroup::Group(name) => ("SELECT assignment FROM groups WHERE name = ?1", name),
        };
        let texts = self
            .connection
            .column::<Option<String>>(sql, &params![key])?;
        let text = texts.into_iter().next().flatten().unwrap_or_default();
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Replaces the assignment of a machine or group. An empty assignment deletes it.
    ///
    /// # Errors
    /// A value is not valid, or the database cannot be written.
    pub fn assign(&self, whom: &MachineOrGroup, assignment: &Assignment) -> Result<()> {
        require_sound(assignment)?;
        let text = match assignment.is_empty() {
            true => None,
            false => serde_json::to_string(assignment).ok(),
        };
        match (whom, text) {
            (MachineOrGroup::Machine(id), text) => self.connection.execute(
                "UPDATE machines SET assignment = ?2 WHERE id = ?1",
                &params![id, text],
            )?,
            (MachineOrGroup::Group(name), Some(text)) => {
                require_name("group", name)?;
                self.connection.execute(
                    "INSERT INTO groups (name, assignment) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET assignment = ?2",
                    &params![name, text],
                )?
            }
            (MachineOrGroup::Group(name), None) => self
                .connection
                .execute("DELETE FROM groups WHERE name = ?1", &params![name])?,
        };
        Ok(())
    }

    /// The groups that have an assignment.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn groups(&self) -> Result<Vec<(String, Assignment)>> {
        let select = "SELECT name, assignment FROM groups ORDER BY name";
        let rows = self.connection.rows(select, &[])?;
        let group = |row: &Row| {
            let (name, text) = (row.get(0)?, row.get::<String>(1)?);
            Ok((name, serde_json::from_str(&text).unwrap_or_default()))
        };
        rows.iter().map(group).collect()
    }

    /// The network cards of a machine, or of all machines of a group.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn cards(&self, whom: &MachineOrGroup) -> Result<Vec<Mac>> {
        let (condition, key) = match whom {
            MachineOrGroup::Machine(id) => ("id = ?1", id),
            MachineOrGroup::Group(name) => ("grp = ?1", name),
        };
        let sql = format!(
            "SELECT mac FROM macs JOIN machines ON machine = id WHERE {condition} ORDER BY mac"
        );
        let texts = self.connection.column::<String>(&sql, &params![key])?;
        Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
    }
}

/// Refuses an assignment that a menu cannot carry.
fn require_sound(assignment: &Assignment) -> Result<()> {
    let refuse = |text: String| Err(StoreError::Refused(text));
    if let Some(system) = &assignment.system
        && assignment.history().is_none()
    {
        return refuse(format!("'{system}' is not a valid SYSTEM[/PROFILE]"));
    }
    if assignment.revision.is_some() && assignment.system.is_none() {
        return refuse("a revision without a system: name the system too".into());
    }
    if let Some(ring) = &assignment.ring
        && ProfileName::new(DEFAULT_RING, ring).is_err()
    {
        return refuse(format!(
            "'{ring}' is not a ring: 1 to 64 of a-z 0-9 . _ -, first a letter or digit"
        ));
    }
    let parameters = assignment.parameters.as_deref().unwrap_or_default();
    let safe = |c: char| c == ' ' || c.is_ascii_graphic() && !"${}`\\'\"|&;<>".contains(c);
    if parameters.len() > PARAMETERS_LEN_MAX || !parameters.chars().all(safe) {
        return refuse(format!(
            "kernel parameters are at most {PARAMETERS_LEN_MAX} printable characters, without $ {{ }} ` \\ ' \" | & ; < >, which boot loaders interpret"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(system: &str) -> Assignment {
        Assignment {
            system: Some(system.into()),
            ..Assignment::default()
        }
    }

    /// docs/FLEET.md F5.2: the assignment of a machine has precedence over that of its group.
    #[test]
    fn a_machine_goes_before_its_group() {
        let group = Assignment {
            revision: Some(7),
            parameters: Some("quiet".into()),
            ..of("kiosk")
        };
        let machine = of("lab").over(group.clone());
        assert_eq!(
            (machine.system.as_deref(), machine.revision),
            (Some("lab"), None)
        );
        assert_eq!(machine.parameters.as_deref(), Some("quiet"));
        assert_eq!(Assignment::default().over(group.clone()), group);
    }

    #[test]
    fn what_no_menu_can_carry_is_refused() {
        let spool = tempfile::tempdir().unwrap();
        let store = Database::create(spool.path()).unwrap();
        let group = MachineOrGroup::Group("room".into());
        let parameters = |text: &str| Assignment {
            parameters: Some(text.into()),
            ..Assignment::default()
        };
        let lone = Assignment {
            revision: Some(7),
            ..Assignment::default()
        };
        let long = "x".repeat(1025);
        let ring = Assignment {
            ring: Some("a/b".into()),
            ..Assignment::default()
        };
        for wrong in [
            of("../x"),
            ring,
            lone,
            parameters("a;b"),
            parameters("a\nb"),
            parameters(&long),
        ] {
            assert!(store.assign(&group, &wrong).is_err(), "{wrong:?}");
        }
        assert!(
            store
                .assign(&MachineOrGroup::Group("a b".into()), &of("kiosk"))
                .is_err()
        );
        store.assign(&group, &of("kiosk/lab-3")).unwrap();
        assert_eq!(
            store.groups().unwrap(),
            [("room".to_owned(), of("kiosk/lab-3"))]
        );
        store.assign(&group, &Assignment::default()).unwrap();
        assert!(store.groups().unwrap().is_empty());
    }
}
