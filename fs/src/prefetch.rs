//! Prefetching: first the boot pack, then, without demand, the rest.

pub(crate) mod background;
pub(crate) mod pack;

use std::str::FromStr;

/// The amount of prefetching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The boot pack; then, if a disk caches it, everything else in the background while no reader
    /// waits.
    #[default]
    Auto,
    /// Like `Auto`, also if only memory caches it.
    All,
    /// The boot pack only.
    Pack,
    /// No prefetching.
    None,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        match text {
            "auto" => Ok(Policy::Auto),
            "all" => Ok(Policy::All),
            "pack" => Ok(Policy::Pack),
            "none" => Ok(Policy::None),
            other => Err(format!(
                "{other:?} is not a prefetch policy: use auto, all, pack or none"
            )),
        }
    }
}
