//! Hellos: the messages of a machine to the fleet about its state.
//!
//! `docs/FLEET.md` (F3) is the specification. Any host on the network can send a hello, so every
//! field is bounded. A hello is one JSON object; a reader drops unknown keys.

use serde::{Deserialize, Serialize};

use crate::machine::{BootCard, Identity};
use crate::machine_key::PublicKey;
use crate::manifest::RevisionName;

/// Largest hello, bytes. A typical one has about 600.
pub const HELLO_LEN_MAX: usize = 4096;
/// Longest text in a hello, bytes.
const TEXT_LEN_MAX: usize = 128;
/// Longest reason in a hello, bytes.
const WHY_LEN_MAX: usize = 512;
/// Largest number of failed units, and of failed checks, in one hello.
pub const FAILED_MAX: usize = 16;
/// Largest count: every JSON reader represents it exactly.
const COUNT_MAX: u64 = (1 << 53) - 1;
const FORMAT: u32 = 1;

/// The steps of a boot, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The machine asked for its boot menu.
    Menu,
    /// The machine fetched its kernel.
    Kernel,
    /// The machine fetched its initramfs.
    Initramfs,
    /// The mount has verified a signed head.
    Head,
    /// The mount has the index.
    Index,
    /// The root is mounted.
    Mounted,
    /// The system reached the unit that ends a boot.
    Target,
    /// The system reached the unit, and its health is good.
    Healthy,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Step; 8] = [
        Step::Menu,
        Step::Kernel,
        Step::Initramfs,
        Step::Head,
        Step::Index,
        Step::Mounted,
        Step::Target,
        Step::Healthy,
    ];

    /// The name of the step in JSON and texts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Step::Menu => "menu",
            Step::Kernel => "kernel",
            Step::Initramfs => "initramfs",
            Step::Head => "head",
            Step::Index => "index",
            Step::Mounted => "mounted",
            Step::Target => "target",
            Step::Healthy => "healthy",
        }
    }

    /// The step with this name.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Step> {
        Step::ALL.into_iter().find(|step| step.word() == word)
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

/// The health of a running system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The output of `systemctl is-system-running`; empty without systemd.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Failed units, at most [`FAILED_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<String>,
    /// Failed checks of `/etc/layerfs/health.d`, at most [`FAILED_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
}

impl Health {
    /// True if no unit and no check failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.state.as_str(), "" | "running")
            && self.units.is_empty()
            && self.checks.is_empty()
    }
}

/// Used bytes and size of a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Bytes in use.
    pub used: u64,
    /// Size in bytes.
    pub size: u64,
}

/// The content of one hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the format: 1.
    pub format: u32,
    /// The machine that sends it.
    pub machine: Identity,
    /// The network card that it booted from; none if that is no PCI card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<BootCard>,
    /// The step that its boot reached.
    pub step: Step,
    /// The kernel's name for this boot (`/proc/sys/kernel/random/boot_id`); empty before the kernel
    /// runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot: String,
    /// `SYSTEM/PROFILE@REVISION`; empty before it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Seconds since the kernel's start.
    #[serde(default)]
    pub uptime_s: u64,
    /// Milliseconds from the kernel's start to the unit that ends a boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ms: Option<u64>,
    /// The health of the system, from [`Step::Target`] on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Bytes received from servers since the mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Description of the cache.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cache: String,
    /// Fill of the file system that holds the upper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<Fill>,
    /// The reason for a stop at this step.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The public part of the machine's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PublicKey>,
    /// The kernel's release.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel: String,
    /// The client's version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// The bytes are not a valid hello.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a hello: {0}")]
pub struct HelloError(String);

fn check(holds: bool, what: &str) -> Result<(), HelloError> {
    if holds {
        Ok(())
    } else {
        Err(HelloError(what.to_owned()))
    }
}

fn is_line(text: &str, len_max: usize) -> bool {
    text.len() <= len_max && !text.chars().any(char::is_control)
}

impl Hello {
    /// Creates a hello with an identity and a step only.
    #[must_use]
    pub fn new(machine: Identity, step: Step) -> Hello {
        Hello {
            format: FORMAT,
            machine,
            card: None,
            step,
            boot: String::new(),
            revision: String::new(),
            uptime_s: 0,
            target_ms: None,
            health: None,
            bytes: None,
            cache: String::new(),
            upper: None,
            why: String::new(),
            key: None,
            kernel: String::new(),
            version: String::new(),
        }
    }

    /// The step of the boot with the health taken into account: without good health no boot is
    /// healthy.
    #[must_use]
    pub fn reached(&self) -> Step {
        match (&self.health, self.step) {
            (Some(health), Step::Target | Step::Healthy) if health.is_good() => Step::Healthy,
            (_, Step::Healthy) => Step::Target,
            (_, step) => step,
        }
    }

    /// Encodes the hello for sending.
    ///
    /// # Errors
    /// A field is out of its bounds.
    pub fn encode(&self) -> Result<Vec<u8>, HelloError> {
        self.validate()?;
        let bytes = serde_json::to_vec(self).map_err(|error| HelloError(error.to_string()))?;
        check(bytes.len() <= HELLO_LEN_MAX, "too long")?;
        Ok(bytes)
    }

    /// Reads a hello and checks every bound.
    ///
    /// # Errors
    /// The bytes are not exactly one hello, or a field is out of its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Hello, HelloError> {
        check(bytes.len() <= HELLO_LEN_MAX, "too long")?;
        let hello: Hello =
            serde_json::from_slice(bytes).map_err(|error| HelloError(error.to_string()))?;
        hello.validate()?;
        Ok(hello)
    }

    fn validate(&self) -> Result<(), HelloError> {
        check(self.format == FORMAT, "unknown format")?;
        check(self.machine.is_sound(), "it has no valid machine")?;
        let is_boot = |c: char| c.is_ascii_hexdigit() || c == '-';
        check(
            self.boot.len() <= 36 && self.boot.chars().all(is_boot),
            "its boot is not valid",
        )?;
        let named = || self.revision.parse::<RevisionName>();
        let is_revision =
            self.revision.is_empty() || named().is_ok_and(|name| name.revision.is_some());
        check(is_revision, "its revision is not valid")?;
        let mut texts = vec![&self.cache, &self.kernel, &self.version];
        if let Some(health) = &self.health {
            let enough = health.units.len().max(health.checks.len()) <= FAILED_MAX;
            check(enough, "it has too many failures")?;
            texts.push(&health.state);
            texts.extend(health.units.iter().chain(&health.checks));
        }
        for text in texts {
            check(
                is_line(text, TEXT_LEN_MAX),
                "a text is too long or not one line",
            )?;
        }
        check(
            is_line(&self.why, WHY_LEN_MAX),
            "the reason is too long or not one line",
        )?;
        let fill = self.upper.unwrap_or_default();
        let counts = [
            self.uptime_s,
            self.target_ms.unwrap_or(0),
            self.bytes.unwrap_or(0),
            fill.used,
            fill.size,
        ];
        check(
            counts.iter().all(|count| *count <= COUNT_MAX),
            "a count is too large",
        )
    }
}

/// Cuts a text to the length of a field, as one line of ASCII.
#[must_use]
pub fn line(text: &str) -> String {
    cut(text, TEXT_LEN_MAX)
}

/// Cuts a reason to the length of [`Hello::why`], as one line of ASCII.
#[must_use]
pub fn reason(text: &str) -> String {
    cut(text, WHY_LEN_MAX)
}

fn cut(text: &str, len_max: usize) -> String {
    let one_line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let ascii = one_line.filter(char::is_ascii);
    ascii.take(len_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let machine = Identity::of_words(
            "4c4c4544-0042-3510-8051-b4c04f564433",
            "52:54:00:00:00:17",
            "A-17",
        );
        Hello {
            boot: "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0".into(),
            revision: "kiosk/main@7".into(),
            uptime_s: 31,
            target_ms: Some(9_300),
            card: Some(BootCard {
                mac: "52:54:00:00:00:17".parse().unwrap(),
                pci: "8086:10d3".parse().unwrap(),
            }),
            health: Some(Health {
                state: "degraded".into(),
                units: vec!["cups.service".into()],
                checks: Vec::new(),
            }),
            ..Hello::new(machine, Step::Target)
        }
    }

    /// docs/FLEET.md F3.2: a reader drops unknown keys.
    #[test]
    fn a_hello_survives_and_unknown_keys_are_dropped() {
        let whole = hello().encode().unwrap();
        assert_eq!(Hello::decode(&whole).unwrap(), hello());
        let mut more: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        more["later"] = "x".into();
        assert_eq!(Hello::decode(more.to_string().as_bytes()).unwrap(), hello());
    }

    /// docs/FLEET.md F4.2: the health decides whether a boot is `healthy`, not the step of the
    /// hello.
    #[test]
    fn healthy_is_what_the_health_says() {
        let mut claimed = hello();
        claimed.step = Step::Healthy;
        assert_eq!(claimed.reached(), Step::Target);
        claimed.health = Some(Health {
            state: "running".into(),
            ..Health::default()
        });
        assert_eq!(claimed.reached(), Step::Healthy);
        claimed.health.as_mut().unwrap().checks = vec!["printer".into()];
        assert_eq!(claimed.reached(), Step::Target);
        claimed.health = None;
        assert_eq!(claimed.reached(), Step::Target);
    }

    #[test]
    fn hostile_hellos_are_refused() {
        let good = serde_json::to_value(hello()).unwrap();
        let table: [(&str, serde_json::Value); 12] = [
            ("/format", 2.into()),
            (
                "/machine/uuid",
                "00000000-0000-0000-0000-000000000000".into(),
            ),
            ("/machine/macs", vec!["52:54:00:00:00:01"; 9].into()),
            ("/machine/asset", "a\u{7}".into()),
            ("/step", "flying".into()),
            ("/boot", "../../etc".into()),
            ("/revision", "kiosk/main".into()),
            ("/uptime_s", u64::MAX.into()),
            ("/target_ms", (-1).into()),
            ("/health/state", "x".repeat(129).into()),
            ("/health/units", vec!["a"; 17].into()),
            ("/health/units", serde_json::json!(["a\nb"])),
        ];
        for (field, value) in table {
            let mut bad = good.clone();
            *bad.pointer_mut(field).unwrap() = value;
            assert!(
                Hello::decode(bad.to_string().as_bytes()).is_err(),
                "{field}: {bad}"
            );
        }
        let mut nobody = good.clone();
        nobody["machine"] = serde_json::json!({});
        assert!(Hello::decode(nobody.to_string().as_bytes()).is_err());
        let mut long = good.to_string().into_bytes();
        long.resize(HELLO_LEN_MAX + 1, b' ');
        assert!(Hello::decode(&long).is_err());
        assert!(Hello::decode(b"").is_err());
        assert!(Hello::decode(&[0xff; 64]).is_err());
    }
}
