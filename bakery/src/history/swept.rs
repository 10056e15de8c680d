//! The marks of revisions whose objects were swept.

use bytes::Bytes;
use wire::manifest::RevisionName;

use super::{History, Result};
use crate::clock;
use crate::store::Key;

impl History {
    /// True if parts of a revision were deleted on purpose.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn is_swept(&self, revision: &RevisionName) -> Result<bool> {
        Ok(self.store().len(&mark(revision))?.is_some())
    }

    /// Marks a revision before parts of it are deleted.
    pub(crate) fn mark_swept(&self, revision: &RevisionName) -> Result<()> {
        let record = Bytes::from(format!("{{\"time\":{}}}\n", clock::now()));
        self.store().create_object(&mark(revision), record)?;
        Ok(())
    }
}

fn mark(revision: &RevisionName) -> Key {
    Key::swept(&revision.name, revision.revision.unwrap_or_default())
}
