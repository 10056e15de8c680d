//! The end of a boot, as far as its messages show it. `docs/FLEET.md` (F11.8) has the table.

use serde::{Deserialize, Serialize};
use wire::hello::Step;

use crate::record::{BOOT_DEADLINE_S, Boot};

/// Seconds from the last message of a boot to the next boot within which the machine restarted by
/// itself: a person needs longer to see that it hangs.
pub const RESTART_S: i64 = 120;
/// Restarts in a row that make a boot loop.
pub const LOOP_LEN: usize = 3;

/// The end of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Healthy.
    Good,
    /// Healthy, and much slower than the good boots of older revisions on this machine.
    Slow,
    /// The target was reached; units or checks failed.
    Degraded,
    /// The mount failed and gave a reason.
    NoRoot,
    /// No message after the initramfs, and the next boot began later.
    InitramfsHang,
    /// No message after the initramfs, and the next boot began at once.
    InitramfsRestart,
    /// The root was mounted, the target was not reached, and the next boot began later.
    Hang,
    /// The root was mounted, the target was not reached, and the next boot began at once.
    Panic,
    /// The machine did not fetch its initramfs.
    NotFetched,
    /// Below the target for too long, without a next boot: a hang, or switched off.
    Silent,
    /// The boot is running.
    Booting,
    /// A switch to another revision, with good health, or a boot that switched before its target.
    Switched,
}

impl Ending {
    /// The end of `boot`; `next` is the beginning of the next boot of the machine.
    #[must_use]
    pub fn of(boot: &Boot, next: Option<i64>, now: i64) -> Ending {
        if boot.step_before.is_some() && boot.step != Step::Target {
            return Ending::Switched;
        }
        let Some(next) = next else {
            return match boot.step {
                Step::Healthy => Ending::Good,
                Step::Target => Ending::Degraded,
                _ if now - boot.began > BOOT_DEADLINE_S => Ending::Silent,
                _ => Ending::Booting,
            };
        };
        let at_once = next - boot.heard <= RESTART_S;
        match boot.step {
            Step::Healthy => Ending::Good,
            Step::Target => Ending::Degraded,
            Step::Menu | Step::Kernel => Ending::NotFetched,
            Step::Initramfs | Step::Head | Step::Index if !boot.why.is_empty() => Ending::NoRoot,
            Step::Initramfs | Step::Head | Step::Index if at_once => Ending::InitramfsRestart,
            Step::Initramfs | Step::Head | Step::Index => Ending::InitramfsHang,
            Step::Mounted if at_once => Ending::Panic,
            Step::Mounted => Ending::Hang,
        }
    }

    /// The word of the specification's table.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Ending::Good => "good",
            Ending::Slow => "slow",
            Ending::Degraded => "degraded",
            Ending::NoRoot => "no root",
            Ending::InitramfsHang => "initramfs hang",
            Ending::InitramfsRestart => "initramfs restart",
            Ending::Hang => "hang",
            Ending::Panic => "panic",
            Ending::NotFetched => "not fetched",
            Ending::Silent => "silent",
            Ending::Booting => "booting",
            Ending::Switched => "switched",
        }
    }

    /// True for a healthy boot.
    #[must_use]
    pub fn is_good(self) -> bool {
        matches!(self, Ending::Good | Ending::Slow)
    }

    /// True for an end that blames the revision, unless there is another explanation.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Ending::Degraded | Ending::NoRoot | Ending::Hang | Ending::Panic => true,
            Ending::InitramfsHang | Ending::InitramfsRestart => true,
            Ending::Good | Ending::Slow | Ending::NotFetched => false,
            Ending::Silent | Ending::Booting | Ending::Switched => false,
        }
    }

    /// True if the machine restarted by itself before its target.
    #[must_use]
    pub fn is_restart(self) -> bool {
        matches!(self, Ending::Panic | Ending::InitramfsRestart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(step: Step, why: &str) -> Boot {
        Boot {
            began: 1000,
            heard: 1060,
            step,
            revision: "kiosk/main@2".into(),
            target_ms: None,
            why: why.into(),
            hello: None,
            step_before: None,
        }
    }

    /// docs/FLEET.md F11.8: the table of endings.
    #[test]
    fn endings_are_told_apart() {
        let (soon, later) = (Some(1100), Some(1500));
        for (step, why, next, now, ending) in [
            (Step::Healthy, "", None, 2000, Ending::Good),
            (Step::Healthy, "", soon, 2000, Ending::Good),
            (Step::Target, "", None, 2000, Ending::Degraded),
            (Step::Head, "no index", later, 2000, Ending::NoRoot),
            (Step::Initramfs, "", later, 2000, Ending::InitramfsHang),
            (Step::Initramfs, "", soon, 2000, Ending::InitramfsRestart),
            (Step::Mounted, "", later, 2000, Ending::Hang),
            (Step::Mounted, "", soon, 2000, Ending::Panic),
            (Step::Kernel, "", later, 2000, Ending::NotFetched),
            (Step::Mounted, "", None, 1901, Ending::Silent),
            (Step::Menu, "", None, 1900, Ending::Booting),
        ] {
            assert_eq!(Ending::of(&boot(step, why), next, now), ending, "{step}");
        }
    }
}
