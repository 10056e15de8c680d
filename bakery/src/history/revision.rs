//! One revision, verified.

use layerfmt::Digest;
use wire::manifest::{Head, Manifest, RevisionName};

/// One revision of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The signed record.
    pub head: Head,
    /// Digest of the head's payload, which the next head names.
    pub digest: Digest,
    /// The manifest that the head names.
    pub manifest: Manifest,
}

impl Revision {
    /// The number of the revision.
    pub fn number(&self) -> u64 {
        self.head.revision
    }

    /// `SYSTEM[/PROFILE]@REVISION`
    pub fn name(&self) -> RevisionName {
        RevisionName {
            name: self.head.name(),
            revision: Some(self.head.revision),
        }
    }
}
