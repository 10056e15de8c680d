//! The targets to which one key may push.

use std::fmt;
use std::str::FromStr;

use wire::manifest::is_name;

use crate::jobs::{Target, TargetError};

/// A list of systems and profiles: `kiosk` is all of a system, `lab/room-3` one profile,
/// `*` everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    entries: Vec<GrantedTarget>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum GrantedTarget {
    All,
    System(String),
    Profile(Target),
}

impl Rights {
    /// True if the key may push to `target`.
    #[must_use]
    pub(crate) fn allow(&self, target: &Target) -> bool {
        self.entries.iter().any(|entry| match entry {
            GrantedTarget::All => true,
            GrantedTarget::System(system) => *system == target.system,
            GrantedTarget::Profile(profile) => profile == target,
        })
    }

    /// The named profiles; a system stands for its profile `main`.
    pub(crate) fn targets(&self) -> impl Iterator<Item = Target> {
        self.entries.iter().filter_map(|entry| match entry {
            GrantedTarget::All => None,
            GrantedTarget::System(system) => system.parse().ok(),
            GrantedTarget::Profile(target) => Some(target.clone()),
        })
    }
}

impl FromStr for Rights {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let entry = |one: &str| match one {
            "*" => Ok(GrantedTarget::All),
            one if is_name(one) => Ok(GrantedTarget::System(one.to_owned())),
            one => {
                // A plain system name was handled above, so this is a profile or invalid.
                one.parse().map(GrantedTarget::Profile)
            }
        };
        let entries = text.split(',').map(entry).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.entries.iter().enumerate() {
            out.write_str(if index == 0 { "" } else { "," })?;
            match entry {
                GrantedTarget::All => out.write_str("*")?,
                GrantedTarget::System(system) => out.write_str(system)?,
                GrantedTarget::Profile(target) => write!(out, "{target}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_per_system_or_profile() {
        let rights: Rights = "kiosk,lab/room-3".parse().unwrap();
        let allows = |text: &str| rights.allow(&text.parse().unwrap());
        assert!(allows("kiosk") && allows("kiosk/x") && allows("lab/room-3"));
        assert!(!allows("lab") && !allows("lab/room-4") && !allows("kiosk2") && !allows("kios"));
        assert_eq!(rights.to_string(), "kiosk,lab/room-3");
        assert!(
            "*".parse::<Rights>()
                .unwrap()
                .allow(&"any/thing".parse().unwrap())
        );
        for text in ["", ",", "kiosk,", "a b", "lab/", "**", "kiosk,../x"] {
            assert!(text.parse::<Rights>().is_err(), "{text:?}");
        }
    }
}
