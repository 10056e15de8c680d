//! The records of a job.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wire::manifest::{ProfileName, PushKey};

/// The target of changes: a profile of a system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Name of the system.
    pub system: String,
    /// Name of the profile.
    pub profile: String,
}

/// A target that cannot be one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not SYSTEM or SYSTEM/PROFILE (names of a-z, 0-9, '.', '_', '-', first a letter or digit)"
)]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let name: ProfileName = text.parse().map_err(|_| TargetError(text.to_owned()))?;
        Ok(Self {
            system: name.system,
            profile: name.profile,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.system, self.profile)
    }
}

/// The way by which a job arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Through `bakery receive`, with this authorized key.
    Push {
        /// The key's name in the authorization.
        key: String,
        /// Its fingerprint, `SHA256:…`, if the authorization has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fingerprint: Option<String>,
    },
    /// A file in `incoming/`.
    Drop {
        /// The file's name.
        file: String,
    },
}

impl Origin {
    /// The key that was authenticated, if one was.
    #[must_use]
    pub fn key(&self) -> Option<PushKey> {
        match self {
            Self::Push { key, fingerprint } => Some(PushKey {
                fingerprint: fingerprint.clone(),
                comment: key.clone(),
            }),
            Self::Drop { .. } => None,
        }
    }
}

/// The request of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRequest {
    /// The target of the changes.
    #[serde(flatten)]
    pub target: Target,
    /// The author, as stated by the sender.
    pub author: String,
    /// The reason, in the sender's words.
    pub message: String,
    /// The way by which the changes arrived.
    pub origin: Origin,
    /// Time of arrival in seconds since 1970, by our clock.
    pub received: u64,
    /// The revision on which the changes were made, if the sender knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    /// BLAKE3 of the upload, checked on arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// The warnings in the report of an ended job: likely secrets, and other findings.
#[must_use]
pub fn warnings(report: &serde_json::Value) -> Vec<&str> {
    let listed = report.get("warnings").and_then(|value| value.as_array());
    let listed = listed.into_iter().flatten();
    listed.filter_map(|warning| warning.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_strict() {
        let parse = |text: &str| text.parse::<Target>().map(|target| target.to_string());
        assert_eq!(parse("kiosk"), Ok("kiosk/main".into()));
        assert_eq!(parse("kiosk/lab-3"), Ok("kiosk/lab-3".into()));
        for text in [
            "", "/", "a/", "/b", "a/b/c", "../x", "a/..", ".a", "-a", "a b", "a\n", "a;b", "$(x)",
        ] {
            assert_eq!(parse(text), Err(TargetError(text.into())), "{text:?}");
        }
    }
}
