//! The ring record: the rings of a history, and the revision that the machines of each boot. Signed.

use serde::{Deserialize, Serialize};

use super::canonical::{self, INTEGER_MAX, RecordError, check, check_line};
use super::name::{self, ProfileName};
use layerfmt::Digest;

/// Largest ring record, bytes.
pub const RING_RECORD_LEN_MAX: usize = 16 << 10;
/// The ring of a machine that has none; the last ring of every record.
pub const DEFAULT_RING: &str = "all";
/// Most rings of a history.
pub const RINGS_MAX: usize = 16;
/// Most quarantined revisions of a record.
pub const QUARANTINED_MAX: usize = 256;
/// Longest author and message, bytes.
const TEXT_LEN_MAX: usize = 256;

/// The change that a ring record makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RingAction {
    /// A ring was added.
    Add,
    /// A ring was removed.
    Remove,
    /// A ring got another revision.
    Promote,
    /// A ring was paused.
    Pause,
    /// A ring continues.
    Resume,
    /// The conditions of promotion or quarantine changed.
    Policy,
    /// A revision was quarantined, and the rings that had it returned to a good one.
    Quarantine,
    /// A quarantine was lifted.
    Release,
    /// Signed again; the rings are the same.
    Renew,
}

impl RingAction {
    /// The name of the action in JSON and texts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            RingAction::Add => "add",
            RingAction::Remove => "remove",
            RingAction::Promote => "promote",
            RingAction::Pause => "pause",
            RingAction::Resume => "resume",
            RingAction::Policy => "policy",
            RingAction::Quarantine => "quarantine",
            RingAction::Release => "release",
            RingAction::Renew => "renew",
        }
    }
}

/// The conditions for the automatic promotion of a revision into a ring. They concern the machines
/// of the rings before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingPolicy {
    /// Minimum number of good boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boots: Option<u64>,
    /// Minimum share of machines with a good boot, per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u64>,
    /// Maximum excess of the median boot time over that of the ring's present revision, per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slower: Option<u64>,
    /// Age of the oldest boot that counts, seconds.
    pub within: u64,
}

/// One ring of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ring {
    /// BLAKE3 of the payload of the head of `revision`.
    pub head: Digest,
    /// Its name.
    pub name: String,
    /// True if the ring keeps its revision until it is resumed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
    /// The conditions for an automatic promotion into this ring; absent: by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RingPolicy>,
    /// Its revision. The first ring has the newest revision instead while it is not paused and the
    /// newest is not quarantined.
    pub revision: u64,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// One link of the chain of ring records of a history: all rings after one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingRecord {
    /// The change.
    pub action: RingAction,
    /// Its author.
    pub author: String,
    /// Time from which clients do not accept it as the newest; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// [`RECORD_FORMAT`](super::RECORD_FORMAT).
    pub format: u64,
    /// When it was signed, in seconds since 1970 by the signer's clock.
    pub issued_at: u64,
    /// The reason for the change, one line.
    pub message: String,
    /// The number of the record, counting from 1.
    pub number: u64,
    /// BLAKE3 of the payload of the record before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The profile.
    pub profile: String,
    /// Machines on which a revision must fail to be quarantined; 0: never.
    pub quarantine_after: u64,
    /// Revisions that no ring has, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<u64>,
    /// The rings, in the order of promotion; the last is `all`.
    pub rings: Vec<Ring>,
    /// The system.
    pub system: String,
}

impl RingRecord {
    /// Reads the payload of a record.
    ///
    /// # Errors
    /// The bytes are not the canonical form of a sound record.
    pub fn parse(bytes: &[u8]) -> Result<RingRecord, RecordError> {
        let record: RingRecord = canonical::parse("ring record", bytes, RING_RECORD_LEN_MAX)?;
        record.validate()?;
        canonical::require_canonical("ring record", bytes, &record)?;
        Ok(record)
    }

    /// The canonical bytes, which are signed; `previous` of the next record is their digest.
    ///
    /// # Errors
    /// A field breaks a rule.
    pub fn render(&self) -> Result<Vec<u8>, RecordError> {
        self.validate()?;
        canonical::render("ring record", self)
    }

    /// System and profile.
    pub fn name(&self) -> ProfileName {
        ProfileName {
            system: self.system.clone(),
            profile: self.profile.clone(),
        }
    }

    /// The place of a ring in the order; `None` if the record has no ring with this name.
    #[must_use]
    pub fn place(&self, ring: &str) -> Option<usize> {
        self.rings.iter().position(|one| one.name == ring)
    }

    /// The ring with this name, else `all`.
    #[must_use]
    pub fn ring(&self, ring: &str) -> Option<&Ring> {
        let named = self.rings.iter().find(|one| one.name == ring);
        named.or_else(|| self.rings.last())
    }

    /// True if the machines of a ring get each new revision at once.
    #[must_use]
    pub fn follows_newest(&self, ring: &Ring) -> bool {
        let first = self.rings.first();
        first.is_some_and(|first| first.name == ring.name) && !ring.paused
    }

    /// True if no ring may have the revision.
    #[must_use]
    pub fn is_quarantined(&self, revision: u64) -> bool {
        self.quarantined.binary_search(&revision).is_ok()
    }

    /// The revision of a ring if `newest` is the newest revision of the history.
    #[must_use]
    pub fn current(&self, ring: &Ring, newest: u64) -> u64 {
        let follows = self.follows_newest(ring) && newest > ring.revision;
        if follows && !self.is_quarantined(newest) {
            newest
        } else {
            ring.revision
        }
    }

    fn validate(&self) -> Result<(), RecordError> {
        const RECORD: &str = "ring record";
        canonical::check_format(RECORD, self.format)?;
        name::check_profile_name(RECORD, &self.system, &self.profile)?;
        check(RECORD, self.number >= 1, "number: counts from 1")?;
        check(
            RECORD,
            self.previous.is_some() == (self.number > 1),
            "previous: every record except the first has one",
        )?;
        check_line(RECORD, "author", &self.author, TEXT_LEN_MAX)?;
        check_line(RECORD, "message", &self.message, TEXT_LEN_MAX)?;
        canonical::check_lifetime(RECORD, self.number, self.issued_at, self.expires_at)?;
        let ascending = self.quarantined.is_sorted_by(|a, b| a < b);
        let few = self.quarantined.len() <= QUARANTINED_MAX;
        check(
            RECORD,
            ascending && few && self.quarantined.first() != Some(&0),
            "quarantined: not ascending, or too many",
        )?;
        self.validate_rings()?;
        let quarantined = self.quarantined.last().copied().unwrap_or(0);
        check(
            RECORD,
            self.quarantine_after.max(quarantined) <= INTEGER_MAX,
            "a number above 2^53-1",
        )
    }

    fn validate_rings(&self) -> Result<(), RecordError> {
        const RECORD: &str = "ring record";
        let last = self.rings.last().map(|ring| ring.name.as_str());
        check(
            RECORD,
            self.rings.len() <= RINGS_MAX && last == Some(DEFAULT_RING),
            "rings: more than 16, or the last is not all",
        )?;
        let mut names: Vec<&str> = self.rings.iter().map(|ring| ring.name.as_str()).collect();
        names.sort_unstable();
        check(
            RECORD,
            names.is_sorted_by(|a, b| a < b),
            "rings: one name twice",
        )?;
        for (place, ring) in self.rings.iter().enumerate() {
            check(RECORD, name::is_name(&ring.name), "rings: not a name")?;
            check(
                RECORD,
                (1..=INTEGER_MAX).contains(&ring.revision),
                "rings: revisions count from 1",
            )?;
            check(
                RECORD,
                !self.is_quarantined(ring.revision),
                "rings: a ring has a quarantined revision",
            )?;
            let Some(policy) = &ring.policy else { continue };
            check(
                RECORD,
                place > 0,
                "policy: nothing is promoted into the first ring",
            )?;
            let numbers = [policy.boots, policy.slower, Some(policy.within)];
            let sound = numbers.into_iter().flatten().all(|n| n <= INTEGER_MAX);
            let counts = policy.boots.is_some_and(|boots| boots > 0)
                || policy.percent.is_some_and(|percent| percent > 0);
            let percent = policy.percent.unwrap_or(0) <= 100;
            check(
                RECORD,
                sound && counts && percent && policy.within > 0,
                "policy: it needs boots or percent (at most 100), and within",
            )?;
        }
        Ok(())
    }
}
