//! Machines, boots and assignments, as the database holds them and as people see them.

use serde::{Deserialize, Serialize};
use wire::hello::{Hello, Step};
use wire::manifest::ProfileName;

/// Seconds within which a boot must reach its target. What takes longer has stopped.
pub const BOOT_DEADLINE_S: i64 = 15 * 60;
/// Seconds without a hello after which a running machine counts as switched off: three hellos at the default rate.
pub const SILENCE_S: i64 = 16 * 60;
/// Boots kept of one machine.
pub const BOOTS_KEPT: u32 = 50;

/// The state of a machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its boot goes on.
    Booting,
    /// Its boot stopped before the target.
    Stopped,
    /// It runs and its health is good.
    Good,
    /// It runs, and something failed.
    Degraded,
    /// It ran, and has said nothing for long.
    Off,
}

impl State {
    /// All states.
    pub const ALL: [State; 5] = [
        State::Booting,
        State::Stopped,
        State::Good,
        State::Degraded,
        State::Off,
    ];

    /// The word for it.
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

    /// The state of a machine that came to `step` of a boot that began at `began`, and was heard at `heard`.
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

/// The boot that is assigned to a machine or a group. An absent part is the group's, or the site's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// This revision of it, and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Kernel parameters beside the revision's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// It boots its own disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localboot: Option<bool>,
}

impl Assignment {
    /// True if nothing is assigned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Assignment::default()
    }

    /// This, and what it leaves open from `below`. A revision belongs to its system: one goes with the other.
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
        }
    }

    /// The history that is assigned.
    #[must_use]
    pub fn history(&self) -> Option<ProfileName> {
        self.system.as_deref()?.parse().ok()
    }
}

/// A machine's return from a revision that failed on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// The revision that failed.
    pub from: String,
    /// The last revision that was good on the machine.
    pub to: String,
    /// The time of the decision, in seconds since 1970.
    pub since: i64,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The key under which it is kept: its UUID, else its first card's address.
    pub id: String,
    /// The name that the operator gave it.
    pub name: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// The operator's words.
    pub note: String,
    /// The UUID in its firmware.
    pub uuid: Option<String>,
    /// Its cards.
    pub macs: Vec<String>,
    /// The asset tag in its firmware.
    pub asset: String,
    /// When it was first heard, in seconds since 1970.
    pub first_seen: i64,
    /// When it was last heard.
    pub last_seen: i64,
    /// The address that it was last heard from.
    pub address: String,
    /// The machine whose UUID it has as well, with other cards.
    pub duplicate_of: Option<String>,
    /// When two machines were last heard at once under this name.
    pub clone_seen: Option<i64>,
    /// Its own assignment.
    #[serde(skip_serializing_if = "Assignment::is_empty")]
    pub assignment: Assignment,
    /// The return that holds for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned: Option<Return>,
    /// Its state.
    pub state: State,
    /// Its last boot.
    pub boot: Option<Boot>,
}

impl Machine {
    /// Its name, else its id.
    #[must_use]
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// The revision that it last booted.
    #[must_use]
    pub fn revision(&self) -> &str {
        self.boot.as_ref().map_or("", |boot| boot.revision.as_str())
    }
}

/// One boot of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// When it was first heard of, in seconds since 1970.
    pub began: i64,
    /// When it was last heard of.
    pub heard: i64,
    /// The last step that it reached.
    pub step: Step,
    /// `SYSTEM/PROFILE@REVISION`; empty when it never said.
    pub revision: String,
    /// Milliseconds from the kernel's start to the target.
    pub target_ms: Option<u64>,
    /// The reason that it gave for stopping.
    pub why: String,
    /// Its last hello.
    pub hello: Option<Hello>,
}
