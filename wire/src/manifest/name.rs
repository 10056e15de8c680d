//! Names of systems, profiles and revisions as people write them.

use std::fmt;
use std::str::FromStr;

use super::canonical::{RecordError, check};

/// The default profile: the system's own history.
pub const DEFAULT_PROFILE: &str = "main";

/// Longest name of a system or profile, bytes: a component of URLs and file names.
const NAME_LEN_MAX: usize = 64;

const RULE: &str = "is not a name: 1 to 64 of a-z 0-9 . _ -, first a letter or digit";

/// `SYSTEM[/PROFILE]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName {
    /// The system.
    pub system: String,
    /// The profile.
    pub profile: String,
}

/// `SYSTEM[/PROFILE][@REVISION]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionName {
    /// The history.
    pub name: ProfileName,
    /// The number; absent: the newest revision.
    pub revision: Option<u64>,
}

impl ProfileName {
    /// A checked name.
    ///
    /// # Errors
    /// When one of the two is not a name.
    pub fn new(system: &str, profile: &str) -> Result<Self, RecordError> {
        check_profile_name("name", system, profile)?;
        Ok(ProfileName {
            system: system.into(),
            profile: profile.into(),
        })
    }

    /// Always `SYSTEM/PROFILE`, for comparison with patterns of keysets.
    pub fn full(&self) -> String {
        format!("{}/{}", self.system, self.profile)
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.system)?;
        if self.profile == DEFAULT_PROFILE {
            Ok(())
        } else {
            write!(f, "/{}", self.profile)
        }
    }
}

impl FromStr for ProfileName {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        let (system, profile) = text.split_once('/').unwrap_or((text, DEFAULT_PROFILE));
        ProfileName::new(system, profile)
    }
}

impl fmt::Display for RevisionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        match self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

impl FromStr for RevisionName {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        let Some((name, number)) = text.split_once('@') else {
            return Ok(RevisionName {
                name: text.parse()?,
                revision: None,
            });
        };
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let revision = number.parse().ok().filter(|n| digits && *n >= 1);
        let revision = revision.ok_or_else(|| {
            RecordError::new(
                "name",
                format!("'{number}' is not a revision: a number from 1 on"),
            )
        })?;
        Ok(RevisionName {
            name: name.parse()?,
            revision: Some(revision),
        })
    }
}

pub(crate) fn check_profile_name(
    record: &'static str,
    system: &str,
    profile: &str,
) -> Result<(), RecordError> {
    for name in [system, profile] {
        check(
            record,
            is_name(name),
            &format!("'{}' {RULE}", name.escape_default()),
        )?;
    }
    Ok(())
}

/// True if `name` can be the name of a system, a profile or a tag.
pub fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= NAME_LEN_MAX
        && name.bytes().next().is_some_and(inner)
        && name
            .bytes()
            .all(|b| inner(b) || matches!(b, b'.' | b'_' | b'-'))
}
