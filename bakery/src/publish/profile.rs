//! Adding and removing profiles; replacing keys.

use bytes::Bytes;
use wire::manifest::{Action, BaseRevision, ProfileName, RevisionName};

use super::{Draft, Publisher, Uploads};
use crate::clock;
use crate::history::{HistoryError, Result, Revision};
use crate::store::{Created, Key};

impl Publisher {
    /// Makes a profile that starts as the revision `from`. Of the same system, that is its base and
    /// it can be rebased; of another, it is a copy.
    ///
    /// # Errors
    /// The profile already exists, or the revision does not.
    pub fn add_profile(
        &self,
        name: &ProfileName,
        from: &RevisionName,
        author: &str,
        message: &str,
    ) -> Result<Revision> {
        let base = self.history().revision(from)?;
        let removed = self.history().is_removed(name)?;
        if !removed && self.history().newest(name)?.is_some() {
            let what = format!("{name} exists already; `bakery rebase` moves it");
            return Err(HistoryError::Refused(what));
        }
        let stands_on =
            (from.name.system == name.system && from.name != *name).then(|| BaseRevision {
                layers: base.manifest.layers.len() as u64,
                profile: from.name.profile.clone(),
                revision: base.number(),
            });
        if removed {
            self.store().delete(&Key::removed(name))?;
        }
        let message = match message {
            "" => format!("made from {}", base.name()),
            message => message.into(),
        };
        self.publish(name, Uploads::default(), |head, _| {
            if head.is_some() && !removed {
                let what = format!("{name} was created by another process just now");
                return Err(HistoryError::Refused(what));
            }
            let draft = Draft::like(&base.manifest, Action::Profile, author, &message);
            Ok(Draft {
                base: stands_on.clone(),
                ..draft
            })
        })
    }

    /// Closes a history: it is not listed, accepts no revision, and its objects may be swept. Its
    /// heads stay, so its numbers are never used again.
    ///
    /// # Errors
    /// It does not exist, or it is the base of profiles.
    pub fn remove_profile(&self, name: &ProfileName) -> Result<()> {
        self.history().require_head(name)?;
        for other in self.history().names()? {
            if other.system != name.system || other == *name {
                continue;
            }
            let head = self.history().require_head(&other)?;
            if head
                .manifest
                .base
                .is_some_and(|base| base.profile == name.profile)
            {
                let what = format!("{other} is based on {name}; remove or rebase it first");
                return Err(HistoryError::Refused(what));
            }
        }
        let record = format!("{{\"time\":{}}}\n", clock::now());
        match self
            .store()
            .create_object(&Key::removed(name), Bytes::from(record))?
        {
            Created::New => Ok(()),
            Created::Exists => Err(HistoryError::Removed(name.to_string())),
        }
    }

    /// Publishes the head of a history again, under our own key.
    ///
    /// # Errors
    /// It does not exist. An invalid old signature is not an error: the keyset determines the
    /// publishers, and the caller may change the keyset.
    pub fn resign(&self, name: &ProfileName, author: &str, message: &str) -> Result<Revision> {
        self.publish_after(name, Uploads::default(), true, |head, _| {
            let head = head.ok_or_else(|| self.history().no_history(name))?;
            Ok(Draft::like(&head.manifest, Action::Resign, author, message))
        })
    }
}
