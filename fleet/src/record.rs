//! The records of machines, boots and assignments.

use std::fmt;

use serde::{Deserialize, Serialize};
use wire::hello::{Hello, Step};
use wire::machine_key::PublicKey;
use wire::manifest::ProfileName;

/// Seconds within which a boot must reach its target. A slower boot counts as stopped.
pub const BOOT_DEADLINE_S: i64 = 15 * 60;
/// Seconds without a hello after which a running machine counts as switched off: three of the
/// default intervals.
pub const SILENCE_S: i64 = 16 * 60;
/// Boots that the database keeps of one machine.
pub const BOOTS_KEPT: u32 = 50;

/// The state of a machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its boot is still running.
    Booting,
    /// Its boot stopped before the target.
    Stopped,
    /// It runs, and its health is good.
    Good,
    /// It runs, and a unit or a check failed.
    Degraded,
    /// It ran, and has sent no hello for [`SILENCE_S`].
    Off,
}

impl State {
    /// All states, in order.
    pub const ALL: [State; 5] = [
        State::Booting,
        State::Stopped,
        State::Good,
        State::Degraded,
        State::Off,
    ];

    /// The name of the state in texts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Booting => "booting",
            State::Stopped => "stopped",
            State::Good => "good",
            State::Degraded => "degraded",
            State::Off => "off",
        }
    }

    /// The state of a machine whose last boot began at `began`, reached `step`, and sent its last
    /// hello at `heard`.
    #[must_use]
    pub fn of(step: Step, began: i64, heard: i64, now: i64) -> State {
        match step {
            Step::Healthy if now - heard <= SILENCE_S => State::Good,
            Step::Target if now - heard <= SILENCE_S => State::Degraded,
            Step::Healthy | Step::Target => State::Off,
            _ if now - began <= BOOT_DEADLINE_S => State::Booting,
            _ => State::Stopped,
        }
    }
}

/// The assignment of a machine or a group. The group, or the site's default, supplies an absent
/// field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The assigned history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The only revision of it that the machine boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Kernel parameters in addition to those of the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// True if the machine boots its own disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localboot: Option<bool>,
    /// The ring of the machine in each history that has this ring; in others, `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
}

/// The assignment in English; empty if no field is set.
impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(system) = &self.system {
            let revision = self.revision.map(|number| format!("@{number}"));
            parts.push(format!("{system}{}", revision.unwrap_or_default()));
        }
        match self.localboot {
            Some(true) => parts.push("its own disk".into()),
            Some(false) => parts.push("not its own disk".into()),
            None => {}
        }
        if let Some(ring) = &self.ring {
            parts.push(format!("ring {ring}"));
        }
        if let Some(parameters) = &self.parameters {
            parts.push(format!("parameters: {parameters}"));
        }
        f.write_str(&parts.join(", "))
    }
}

impl Assignment {
    /// True if no field is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Assignment::default()
    }

    /// Fills the absent fields from `below`. A revision belongs to its system, so an own system
    /// hides the revision of `below`.
    #[must_use]
    pub fn over(self, below: Assignment) -> Assignment {
        let revision = match self.system {
            Some(_) => self.revision,
            None => self.revision.or(below.revision),
        };
        Assignment {
            system: self.system.or(below.system),
            revision,
            parameters: self.parameters.or(below.parameters),
            localboot: self.localboot.or(below.localboot),
            ring: self.ring.or(below.ring),
        }
    }

    /// The name of the assigned history.
    #[must_use]
    pub fn history(&self) -> Option<ProfileName> {
        self.system.as_deref()?.parse().ok()
    }
}

/// The return of a machine from a revision that failed on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// The failed revision.
    pub from: String,
    /// The last good revision on this machine.
    pub to: String,
    /// Time of the decision, seconds since 1970.
    pub since: i64,
}

/// A machine of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Its key in the database: its UUID, else the address of its first network card.
    pub id: String,
    /// The name that the operator gave it.
    pub name: Option<String>,
    /// The group of the machine.
    pub group: Option<String>,
    /// The operator's note.
    pub note: String,
    /// The UUID in its firmware.
    pub uuid: Option<String>,
    /// The addresses of its network cards.
    pub macs: Vec<String>,
    /// The asset tag in its firmware.
    pub asset: String,
    /// Time of its first hello, seconds since 1970.
    pub first_seen: i64,
    /// Time of its last hello, seconds since 1970.
    pub last_seen: i64,
    /// The address that sent its last hello.
    pub address: String,
    /// The machine with the same UUID and other network cards.
    pub duplicate_of: Option<String>,
    /// Last time at which two machines ran under this id.
    pub clone_seen: Option<i64>,
    /// The machine's own assignment.
    #[serde(skip_serializing_if = "Assignment::is_empty")]
    pub assignment: Assignment,
    /// The key that the operator accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PublicKey>,
    /// The key that the machine has shown, if it is not the accepted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered: Option<PublicKey>,
    /// Last time at which a hello of it was refused for its proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forged_seen: Option<i64>,
    /// The number of its newest values record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<u64>,
    /// The return in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned: Option<Return>,
    /// The state of the machine.
    pub state: State,
    /// The last boot of the machine.
    pub boot: Option<Boot>,
}

impl Machine {
    /// True if it shares a UUID with another machine, two machines ran under its name, or hellos of
    /// it were refused for their proof.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.duplicate_of.is_some() || self.clone_seen.is_some() || self.forged_seen.is_some()
    }

    /// The machine's name, else its id.
    #[must_use]
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// The revision of its last boot; empty if unknown.
    #[must_use]
    pub fn revision(&self) -> &str {
        self.boot.as_ref().map_or("", |boot| boot.revision.as_str())
    }
}

/// One boot of a machine, or its last switch to another revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// Time of its start, seconds since 1970.
    pub began: i64,
    /// Time of its last message, seconds since 1970.
    pub heard: i64,
    /// The last step that it reached.
    pub step: Step,
    /// `SYSTEM/PROFILE@REVISION`; empty if no message names it.
    pub revision: String,
    /// Milliseconds from the kernel's start to the target.
    pub target_ms: Option<u64>,
    /// The reason for the stop; empty if the boot did not stop.
    pub why: String,
    /// The last hello of the boot.
    pub hello: Option<Hello>,
    /// Of a switch: the step that the machine had reached with the revision before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_before: Option<Step>,
}
