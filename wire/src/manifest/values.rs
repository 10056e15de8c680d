//! The values record: the machine layer, which is the values of one machine. Signed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::canonical::{self, RecordError, check, check_line};
use super::name;
use crate::machine_key::{SEAL_LEN, unhex};
use layerfmt::Digest;

/// Largest values record, bytes.
pub const VALUES_RECORD_LEN_MAX: usize = 64 << 10;
/// Most values of a machine.
pub const VALUES_MAX: usize = 64;
/// Longest value, bytes.
pub const VALUE_LEN_MAX: usize = 4096;
/// Longest author and message, bytes.
const TEXT_LEN_MAX: usize = 256;
const RECORD: &str = "values record";

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum MachineValue {
    /// A secret, sealed to the machine's key: lower-case hexadecimal digits.
    Sealed(String),
    /// A text that everybody may read.
    Text(String),
}

/// One link of the chain of values records of a machine: all of its values after one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValuesRecord {
    /// The author of the change.
    pub author: String,
    /// Time from which clients do not accept it as the newest; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// [`RECORD_FORMAT`](super::RECORD_FORMAT).
    pub format: u64,
    /// When it was signed, in seconds since 1970 by the signer's clock.
    pub issued_at: u64,
    /// The machine's id.
    pub machine: String,
    /// The reason for the change, one line.
    pub message: String,
    /// The number of the record, counting from 1.
    pub number: u64,
    /// BLAKE3 of the payload of the record before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The values by their names.
    pub values: BTreeMap<String, MachineValue>,
}

impl ValuesRecord {
    /// Reads the payload of a record.
    ///
    /// # Errors
    /// The bytes are not the canonical form of a sound record.
    pub fn parse(bytes: &[u8]) -> Result<ValuesRecord, RecordError> {
        let record: ValuesRecord = canonical::parse(RECORD, bytes, VALUES_RECORD_LEN_MAX)?;
        record.validate()?;
        canonical::require_canonical(RECORD, bytes, &record)?;
        Ok(record)
    }

    /// The canonical bytes, which are signed; `previous` of the next record is their digest.
    ///
    /// # Errors
    /// A field breaks a rule.
    pub fn render(&self) -> Result<Vec<u8>, RecordError> {
        self.validate()?;
        let bytes = canonical::render(RECORD, self)?;
        check(
            RECORD,
            bytes.len() <= VALUES_RECORD_LEN_MAX,
            "larger than 64 KiB",
        )?;
        Ok(bytes)
    }

    fn validate(&self) -> Result<(), RecordError> {
        canonical::check_format(RECORD, self.format)?;
        check(RECORD, is_machine_id(&self.machine), "machine: not an id")?;
        check(RECORD, self.number >= 1, "number: counts from 1")?;
        check(
            RECORD,
            self.previous.is_some() == (self.number > 1),
            "previous: every record except the first has one",
        )?;
        check_line(RECORD, "author", &self.author, TEXT_LEN_MAX)?;
        check_line(RECORD, "message", &self.message, TEXT_LEN_MAX)?;
        canonical::check_lifetime(RECORD, self.number, self.issued_at, self.expires_at)?;
        check(
            RECORD,
            self.values.len() <= VALUES_MAX,
            "values: more than 64",
        )?;
        for (name, value) in &self.values {
            check(RECORD, name::is_name(name), "values: a name is not valid")?;
            match value {
                MachineValue::Text(text) => {
                    check_line(RECORD, "values", text, VALUE_LEN_MAX)?;
                }
                MachineValue::Sealed(digits) => {
                    let bytes = unhex(digits).map_or(0, |bytes| bytes.len());
                    let fits = (SEAL_LEN..=SEAL_LEN + VALUE_LEN_MAX).contains(&bytes);
                    check(RECORD, fits, "values: a sealed value is not valid")?;
                }
            }
        }
        Ok(())
    }
}

/// The name under which a secret is sealed: it opens on no other machine and under no other name.
#[must_use]
pub fn sealed_name(machine: &str, value: &str) -> String {
    format!("{machine}/{value}")
}

/// True for the id of a machine: 1 to 64 letters, digits, `.`, `_` and `-`, first a letter or digit.
#[must_use]
pub fn is_machine_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let first = id
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    first && id.len() <= 64 && id.bytes().all(allowed)
}
