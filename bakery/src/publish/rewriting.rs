//! Rewrites a revision under its own number: only for [`crate::purge`].

use bytes::Bytes;
use layerfmt::Digest;
use wire::manifest::{Head, Manifest, ObjectRef};
use wire::trust::HEAD_NAMESPACE;

use super::{Draft, DraftIndex, Publisher};
use crate::clock;
use crate::history::{Result, Revision};
use crate::store::Key;

/// A revision to come in the place of another. Its manifest is in the store, its head is not.
#[derive(Debug, Clone)]
pub struct Rewritten {
    /// The revision to rewrite.
    pub revision: Revision,
    /// Its signed head.
    pub envelope: Vec<u8>,
}

impl Publisher {
    /// Make the merged index of the layers that `manifest` names, and name it there. Without a boot pack.
    ///
    /// # Errors
    /// When a layer is missing or damaged.
    pub(crate) fn restack(&self, manifest: &mut Manifest) -> Result<()> {
        let merged = self.history().flatten(&manifest.layers)?;
        let mut draft = Draft::like(manifest, manifest.action, "", "");
        (draft.pack, draft.plain) = (None, None);
        draft.merged = DraftIndex::New(Box::new(merged));
        let index = self.upload_indexes(&draft)?;
        manifest.index = index.reference;
        manifest.borrowed = index.borrowed;
        manifest.tree_digest = index.tree_digest;
        (manifest.pack, manifest.plain) = (None, None);
        Ok(())
    }

    /// The revision `old` with another manifest, after `parent`.
    ///
    /// # Errors
    /// The manifest breaks a rule, clients would reject our signature, or the store fails.
    pub(crate) fn rewrite(
        &self,
        old: &Revision,
        parent: Option<&Revision>,
        mut manifest: Manifest,
    ) -> Result<Rewritten> {
        manifest.parent = parent.map(|parent| parent.head.manifest.digest);
        let bytes = manifest.render()?;
        let reference = ObjectRef {
            digest: Digest::of(&bytes),
            len: bytes.len() as u64,
        };
        let now = clock::now().max(old.head.issued_at);
        let head = Head {
            expires_at: self.lifetime.map(|time| now + time.as_secs()),
            issued_at: now,
            manifest: reference,
            previous: parent.map(|parent| parent.digest),
            ..old.head.clone()
        };
        let payload = head.render()?;
        let envelope = self.signer.sign(HEAD_NAMESPACE, &payload)?.render()?;
        self.require_believed(&old.name().name, &envelope)?;
        let key = Key::manifest(&reference.digest);
        self.store().create_object(&key, Bytes::from(bytes))?;
        let digest = Digest::of(&payload);
        Ok(Rewritten {
            revision: Revision {
                head,
                digest,
                manifest,
            },
            envelope,
        })
    }
}
