//! What is fetched before it is asked for: first the boot pack, then, when nobody waits, the rest.

pub mod background;
pub mod hot;
pub mod pack;

use std::str::FromStr;

/// How much is fetched ahead of need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The boot pack, then everything else in the background while nobody waits.
    #[default]
    Auto,
    /// The boot pack only.
    Pack,
    /// Nothing.
    None,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        match text {
            "auto" => Ok(Policy::Auto),
            "pack" => Ok(Policy::Pack),
            "none" => Ok(Policy::None),
            other => Err(format!(
                "{other:?} is no prefetch policy: auto, pack or none"
            )),
        }
    }
}
