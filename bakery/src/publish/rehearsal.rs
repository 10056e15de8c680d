//! A dry run: the revision that a command would publish.

use std::sync::{Mutex, PoisonError};

use layerfmt::flatten::MergedIndex;
use serde::Serialize;
use wire::manifest::{Head, IndexRef, ObjectRef, ProfileName, RECORD_FORMAT, RevisionName};
use wire::paths::ObjectPath;

use super::indexes::Indexes;
use super::{Draft, DraftIndex, Plain, Publisher, Uploads, action_text, complete};
use crate::graft::{TreeChange, changes};
use crate::history::{Result, Revision, objects};
use crate::store::{Key, StoreError};

/// The revision that would be published.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    /// The revision that would be made.
    pub would_publish: String,
    /// Action of the revision.
    pub action: String,
    /// Message of the revision.
    pub message: String,
    /// The paths in which it differs from the newest revision; times do not count.
    pub changes: Vec<TreeChange>,
    /// Number of layers it would have.
    pub layer_count: usize,
    /// Boot files that would change: `kernel`, `initrd`, `parameters`.
    pub boot: Vec<&'static str>,
}

/// Receives the revision that would be published.
#[derive(Debug, Default)]
pub(super) struct Rehearsal(Mutex<Option<Preview>>);

impl Publisher {
    /// The same publisher for a dry run: it publishes nothing, and every command fills in
    /// [`Publisher::preview`].
    #[must_use]
    pub fn rehearsing(self) -> Publisher {
        Publisher {
            rehearsal: Some(Rehearsal::default()),
            ..self
        }
    }

    /// The revision that the last command of a dry run would have published; `None` if this is not
    /// a dry run.
    pub fn preview(&self) -> Option<Preview> {
        let kept = &self.rehearsal.as_ref()?.0;
        kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The future revision; its records are unsigned and have no names.
    pub(super) fn rehearse(
        &self,
        rehearsal: &Rehearsal,
        name: &ProfileName,
        parent: Option<&Revision>,
        draft: Draft,
        uploads: [&Uploads<'_>; 2],
    ) -> Result<Revision> {
        let found = self.draft_changes(parent, &draft)?;
        let index = Indexes::of_nothing(&draft);
        let boot = boot_changes(parent, &draft);
        let manifest = complete(name, parent, draft, &index);
        for (key, _) in objects(&manifest) {
            let is_index = matches!(key.object(), Some(ObjectPath::Index(_)));
            let comes = uploads.iter().any(|uploads| uploads.file(&key).is_some());
            if !is_index && !comes && self.store().len(&key)?.is_none() {
                return Err(StoreError::Missing(key).into());
            }
        }
        let wanted = RevisionName {
            name: name.clone(),
            revision: Some(manifest.revision),
        };
        let preview = Preview {
            would_publish: wanted.to_string(),
            action: action_text(manifest.action),
            message: manifest.message.clone(),
            changes: found,
            layer_count: manifest.layers.len(),
            boot,
        };
        let mut kept = rehearsal.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(preview);
        Ok(Revision {
            head: Head {
                expires_at: None,
                format: RECORD_FORMAT,
                issued_at: manifest.time,
                manifest: ObjectRef {
                    digest: Default::default(),
                    len: 0,
                },
                previous: parent.map(|parent| parent.digest),
                profile: name.profile.clone(),
                revision: manifest.revision,
                system: name.system.clone(),
            },
            digest: Default::default(),
            manifest,
        })
    }

    fn draft_changes(&self, parent: Option<&Revision>, draft: &Draft) -> Result<Vec<TreeChange>> {
        let Some(parent) = parent else {
            return Ok(Vec::new());
        };
        let opened;
        let after: &MergedIndex = match (&draft.plain, &draft.merged) {
            (_, DraftIndex::Same { tree_digest, .. })
                if *tree_digest == parent.manifest.tree_digest =>
            {
                return Ok(Vec::new());
            }
            (Some(Plain::New(merged)), _) | (None, DraftIndex::New(merged)) => merged,
            (Some(Plain::Same { index, .. }), _) | (None, DraftIndex::Same { index, .. }) => {
                opened = self.open_index(index)?;
                &opened
            }
        };
        changes(&self.history().merged(&parent.manifest)?, after)
    }

    fn open_index(&self, index: &IndexRef) -> Result<MergedIndex> {
        let layer = self
            .store()
            .open_layer(&Key::index(&index.digest), &index.digest)?;
        Ok(MergedIndex::from_layer(&layer, true)?)
    }
}

fn boot_changes(parent: Option<&Revision>, draft: &Draft) -> Vec<&'static str> {
    let Some(old) = parent.map(|parent| &parent.manifest) else {
        return Vec::new();
    };
    let differ = [
        ("kernel", old.kernel != draft.kernel),
        ("initrd", old.initrd != draft.initrd),
        ("parameters", old.cmdline != draft.cmdline),
    ];
    differ
        .iter()
        .filter(|(_, differs)| *differs)
        .map(|(what, _)| *what)
        .collect()
}
