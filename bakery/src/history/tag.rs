//! Names for revisions that are retained.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wire::manifest::{DEFAULT_PROFILE, ProfileName, RevisionName};
use wire::paths::ObjectPath;

use super::{History, HistoryError, Result};
use crate::clock;
use crate::limits::TAG_LEN_MAX;
use crate::store::{Created, Key};

/// A name for a revision. Only the bakery uses tags: clients do not read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tag {
    /// Name of the tag.
    pub name: String,
    /// Number of the revision.
    pub revision: u64,
    /// When it was given, in seconds since 1970.
    pub time: u64,
}

#[derive(Serialize, Deserialize)]
struct TagRecord {
    revision: u64,
    time: u64,
}

impl History {
    /// The tags of a history, in name order.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn tags(&self, name: &ProfileName) -> Result<Vec<Tag>> {
        let mut tags = Vec::new();
        for entry in self.store().list(&ObjectPath::tags_of(name))? {
            let bytes = self.store().require(&entry.key, TAG_LEN_MAX)?;
            let record: TagRecord = serde_json::from_slice(&bytes).map_err(|e| {
                let what = e.to_string();
                crate::store::StoreError::Damaged {
                    key: entry.key.clone(),
                    what,
                }
            })?;
            tags.push(Tag {
                name: entry.key.file_name().into(),
                revision: record.revision,
                time: record.time,
            });
        }
        Ok(tags)
    }

    /// Names a revision.
    ///
    /// # Errors
    /// The revision does not exist, or the name is taken or invalid.
    pub fn tag(&self, wanted: &RevisionName, tag: &str) -> Result<Tag> {
        check_tag_name(tag)?;
        let revision = self.revision(wanted)?.number();
        let record = TagRecord {
            revision,
            time: clock::now(),
        };
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        match self
            .store()
            .create_object(&Key::tag(&wanted.name, tag), Bytes::from(bytes))?
        {
            Created::New => Ok(Tag {
                name: tag.into(),
                revision,
                time: record.time,
            }),
            Created::Exists => {
                let what = format!("{} has a tag '{tag}' already; delete it first", wanted.name);
                Err(HistoryError::Refused(what))
            }
        }
    }

    /// Removes a name.
    ///
    /// # Errors
    /// It does not exist, or is no name.
    pub fn untag(&self, name: &ProfileName, tag: &str) -> Result<()> {
        check_tag_name(tag)?;
        let key = Key::tag(name, tag);
        if self.store().len(&key)?.is_none() {
            return Err(HistoryError::Refused(format!("{name} has no tag '{tag}'")));
        }
        Ok(self.store().delete(&key)?)
    }
}

/// The rule for names of profiles: a tag is a component of a path.
fn check_tag_name(tag: &str) -> Result<()> {
    ProfileName::new(DEFAULT_PROFILE, tag)?;
    Ok(())
}
