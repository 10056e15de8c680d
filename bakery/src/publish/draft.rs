//! The parts of a revision that its author decides.

use layerfmt::Digest;
use layerfmt::flatten::MergedIndex;
use wire::manifest::{Action, BaseRevision, IndexRef, Manifest, ObjectRef};

/// The merged index of a future revision.
#[derive(Debug, Clone)]
pub enum DraftIndex {
    /// The index of another revision: nothing to compute or write.
    Same {
        /// The merged index.
        index: IndexRef,
        /// Layers outside the stack it borrows from.
        borrowed: Vec<ObjectRef>,
        /// The digest of its tree.
        tree_digest: Digest,
    },
    /// A new one.
    New(Box<MergedIndex>),
}

impl DraftIndex {
    /// The merged index of `manifest`.
    pub fn of(manifest: &Manifest) -> DraftIndex {
        DraftIndex::Same {
            index: manifest.index,
            borrowed: manifest.borrowed.clone(),
            tree_digest: manifest.tree_digest,
        }
    }
}

/// A future revision: the author's decisions. The rest follows from them.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The action of the revision.
    pub action: Action,
    /// Author of the revision.
    pub author: String,
    /// Reason for the revision.
    pub message: String,
    /// The kernel parameters.
    pub cmdline: String,
    /// The kernel to boot.
    pub kernel: Option<ObjectRef>,
    /// The initrd to boot with.
    pub initrd: Option<ObjectRef>,
    /// The base of a profile.
    pub base: Option<BaseRevision>,
    /// The stack, lowest first.
    pub layers: Vec<ObjectRef>,
    /// Its merged index.
    pub merged: DraftIndex,
    /// The boot pack.
    pub pack: Option<ObjectRef>,
    /// With a pack: the merged index without it.
    pub plain: Option<Plain>,
}

/// The merged index without the boot pack, of a revision that has one.
#[derive(Debug, Clone)]
pub enum Plain {
    /// In the store.
    Same {
        /// The merged index.
        index: IndexRef,
        /// Layers outside the stack it borrows from.
        borrowed: Vec<ObjectRef>,
    },
    /// A new one.
    New(Box<MergedIndex>),
}

impl Draft {
    /// A draft with the contents of `manifest`.
    pub fn like(manifest: &Manifest, action: Action, author: &str, message: &str) -> Draft {
        Draft {
            action,
            author: author.into(),
            message: message.into(),
            cmdline: manifest.cmdline.clone(),
            kernel: manifest.kernel,
            initrd: manifest.initrd,
            base: manifest.base.clone(),
            layers: manifest.layers.clone(),
            merged: DraftIndex::of(manifest),
            pack: manifest.pack,
            plain: manifest.plain.map(|index| Plain::Same {
                index,
                borrowed: manifest.borrowed.clone(),
            }),
        }
    }
}
