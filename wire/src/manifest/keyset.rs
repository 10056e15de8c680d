//! The keyset: the keys that may sign heads, and for which histories. Signed by a root key.

use serde::{Deserialize, Serialize};

use super::canonical::{self, INTEGER_MAX, RecordError, check, check_line};
use super::name::ProfileName;
use crate::pattern;

/// Largest keyset, bytes.
pub const KEYSET_LEN_MAX: usize = 256 << 10;
/// Most signers, and most next roots, of one keyset.
const SIGNERS_MAX: usize = 256;
/// Most system patterns of one signer.
const PATTERNS_MAX: usize = 256;
/// Longest pattern, bytes: two names and the slash, with room.
const PATTERN_LEN_MAX: usize = 160;
/// Longest public key line, bytes: an ed25519 key has 80.
const KEY_LEN_MAX: usize = 256;
/// Longest name of a key, bytes.
const KEY_NAME_LEN_MAX: usize = 128;

/// A key that signs heads, and the histories for which it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// `ssh-ed25519 BASE64`, without a comment.
    pub key: String,
    /// The name shown to users.
    pub name: String,
    /// Withdrawn: none of its heads is valid, however old.
    #[serde(default, skip_serializing_if = "is_false")]
    pub revoked: bool,
    /// Patterns of `SYSTEM/PROFILE`; `*` and `?` as in ssh.
    pub systems: Vec<String>,
    /// Heads issued before this do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_after: Option<u64>,
    /// Heads issued at or after this do not count; once it has passed, no head counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_before: Option<u64>,
}

/// The keys of a store at one time. Versions only increase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyset {
    /// Time from which readers do not accept it as the newest; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// [`RECORD_FORMAT`](super::RECORD_FORMAT).
    pub format: u64,
    /// When it was signed, in seconds since 1970.
    pub issued_at: u64,
    /// The signers of heads.
    pub keys: Vec<Signer>,
    /// The root keys that may sign the next versions; absent: the same as before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<String>,
    /// The number, counting from 1.
    pub version: u64,
}

impl Keyset {
    /// Read a keyset's payload.
    ///
    /// # Errors
    /// When the bytes are not the canonical form of a sound keyset.
    pub fn parse(bytes: &[u8]) -> Result<Keyset, RecordError> {
        let keyset: Keyset = canonical::parse("keyset", bytes, KEYSET_LEN_MAX)?;
        keyset.validate()?;
        canonical::require_canonical("keyset", bytes, &keyset)?;
        Ok(keyset)
    }

    /// The canonical bytes, which are signed.
    ///
    /// # Errors
    /// A field breaks a rule.
    pub fn render(&self) -> Result<Vec<u8>, RecordError> {
        self.validate()?;
        canonical::render("keyset", self)
    }

    fn validate(&self) -> Result<(), RecordError> {
        canonical::check_format("keyset", self.format)?;
        check("keyset", self.version >= 1, "version: counts from 1")?;
        let most = self.keys.len().max(self.roots.len());
        check(
            "keyset",
            most <= SIGNERS_MAX,
            "keys, roots: at most 256 each",
        )?;
        for signer in &self.keys {
            signer.validate()?;
        }
        for root in &self.roots {
            check_line("keyset", "roots", root, KEY_LEN_MAX)?;
        }
        let mut keys: Vec<&str> = self.keys.iter().map(|signer| signer.key.as_str()).collect();
        keys.sort_unstable();
        check(
            "keyset",
            keys.is_sorted_by(|a, b| a < b),
            "keys: a key twice",
        )?;
        canonical::check_lifetime("keyset", self.version, self.issued_at, self.expires_at)
    }
}

impl Signer {
    /// True if this key may sign heads of `name`, at any time.
    pub fn covers(&self, name: &ProfileName) -> bool {
        let full = name.full();
        self.systems
            .iter()
            .any(|pattern| pattern::matches(pattern, &full))
    }

    fn validate(&self) -> Result<(), RecordError> {
        check_line("keyset", "keys.key", &self.key, KEY_LEN_MAX)?;
        check_line("keyset", "keys.name", &self.name, KEY_NAME_LEN_MAX)?;
        check(
            "keyset",
            !self.systems.is_empty(),
            "keys.systems: at least one pattern",
        )?;
        check(
            "keyset",
            self.systems.len() <= PATTERNS_MAX,
            "keys.systems: at most 256",
        )?;
        for pattern in &self.systems {
            let sound = pattern.len() <= PATTERN_LEN_MAX && pattern::is_sound(pattern);
            check(
                "keyset",
                sound,
                "keys.systems: a pattern is SYSTEM/PROFILE or *, of a-z 0-9 . _ - * ?",
            )?;
        }
        let most = self.valid_after.max(self.valid_before).unwrap_or(0);
        check("keyset", most <= INTEGER_MAX, "a number above 2^53-1")
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if takes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}
