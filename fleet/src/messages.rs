//! The messages between `bakery serve` and the fleet process.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::hello::Step;
use wire::machine::{Identity, PciCard};

use crate::record::{Assignment, Return};

/// The route on which a server says that it runs.
pub const SERVING: &str = "/serving";
/// Interval of these messages.
pub const SERVING_EVERY: Duration = Duration::from_secs(20);

/// The request of `bakery serve` for the assignment of a machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MenuQuestion {
    /// The machine that asked for its menu.
    pub machine: Identity,
}

/// The answer to a [`MenuQuestion`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MenuAnswer {
    /// The machine's id. The URLs of the files in the menu carry it.
    pub machine: String,
    /// The machine's assignment.
    #[serde(default)]
    pub assignment: Assignment,
    /// The return in force.
    #[serde(default)]
    pub returned: Option<Return>,
    /// The number of its newest values record.
    #[serde(default)]
    pub layer: Option<u64>,
    /// The card that it boots from, if its last boot mounted a root with that card.
    #[serde(default)]
    pub card: Option<PciCard>,
}

/// The message of `bakery serve` about a file of a menu that a machine fetched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FetchedNote {
    /// The machine's id.
    pub machine: String,
    /// [`Step::Kernel`] or [`Step::Initramfs`].
    pub step: Step,
    /// The revision of the file.
    #[serde(default)]
    pub revision: String,
}
