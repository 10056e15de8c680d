//! The records that describe a system: manifest, head and keyset.
//!
//! All three are *canonical JSON*: keys in order, no white space, no absent options, so one value
//! has exactly one byte string, and a reader accepts only that one. `docs/PROTOCOL.md` has their
//! grammar. [`trust`](crate::trust) decides which records are valid.

mod canonical;
mod head;
mod keyset;
mod name;
mod ring;
mod trailer;
mod update;
mod values;

use serde::{Deserialize, Serialize};

pub use canonical::RecordError;
pub use head::{HEAD_LEN_MAX, Head};
pub use keyset::{KEYSET_LEN_MAX, Keyset, Signer};
pub use name::is_name;
pub use name::{DEFAULT_PROFILE, ProfileName, RevisionName};
pub use ring::{
    DEFAULT_RING, QUARANTINED_MAX, RING_RECORD_LEN_MAX, RINGS_MAX, Ring, RingAction, RingPolicy,
    RingRecord,
};
pub use trailer::{PushKey, Trailer};
pub use update::{UPDATE_RECORD_LEN_MAX, UpdateEnd, UpdateHeadRef, UpdateRecord};
pub use values::{
    MachineValue, VALUE_LEN_MAX, VALUES_MAX, VALUES_RECORD_LEN_MAX, ValuesRecord, is_machine_id,
    sealed_name,
};

use canonical::{INTEGER_MAX, check, check_line, check_text};
use layerfmt::Digest;

/// The version of the three record grammars.
pub const RECORD_FORMAT: u64 = 1;

/// Largest manifest, bytes. One with 1000 layers has 110 KB.
pub const MANIFEST_LEN_MAX: usize = 4 << 20;
/// Most layers of one stack, and most borrowed ones. The kernel's overlayfs stops at 500.
pub(crate) const STACK_LEN_MAX: usize = 1024;
/// Longest message, bytes.
pub const MESSAGE_LEN_MAX: usize = 64 << 10;
/// Longest kernel command line, bytes: the limit of x86.
pub(crate) const CMDLINE_LEN_MAX: usize = 2048;
/// Longest author, bytes.
pub const AUTHOR_LEN_MAX: usize = 256;

/// An immutable object of the store: its name and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// Layers, packs and indexes: the layer digest. Boot files: BLAKE3 of the bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub len: u64,
}

/// The merged index of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexRef {
    /// The layer digest of the index file.
    pub digest: Digest,
    /// Length of the part that a client fetches: superblock and INDEX section.
    pub head_len: u64,
    /// Length of the whole file.
    pub len: u64,
}

/// The base revision of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseRevision {
    /// The number of layers of this stack, from the bottom, that belong to the base.
    pub layers: u64,
    /// The base's profile, of the same system.
    pub profile: String,
    /// The base's revision.
    pub revision: u64,
}

/// The action that made a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The import of a whole system.
    Import,
    /// A layer baked from an upper.
    Bake,
    /// A profile made from a base.
    Profile,
    /// Old contents, published again.
    Rollback,
    /// A layer of another history put on top.
    CherryPick,
    /// A profile moved to another revision of its base.
    Rebase,
    /// Several layers made one; the tree is the same.
    Compact,
    /// A boot pack added; the tree is the same.
    Pack,
    /// Signed again; the contents are the same.
    Resign,
    /// A kernel, an initramfs or kernel parameters to boot with; the tree is the same.
    Boot,
}

/// One revision: all data that a client needs to boot it.
///
/// The fields are in the order of their JSON keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The action that made it.
    pub action: Action,
    /// The author, as stated by the sender.
    pub author: String,
    /// The base of a profile; absent for a system's own history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseRevision>,
    /// Layers outside the stack whose chunks the merged index borrows, in digest order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub borrowed: Vec<ObjectRef>,
    /// Kernel parameters of this revision.
    pub cmdline: String,
    /// Always [`RECORD_FORMAT`].
    pub format: u64,
    /// The merged index.
    pub index: IndexRef,
    /// The initrd to boot with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<ObjectRef>,
    /// The kernel to boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<ObjectRef>,
    /// The stack, lowest layer first.
    pub layers: Vec<ObjectRef>,
    /// The reason, in the author's words.
    pub message: String,
    /// The boot pack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<ObjectRef>,
    /// The manifest of the revision before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// The same merged index without the boot pack: the fallback of a client if the pack is
    /// unavailable. Present exactly if `pack` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<IndexRef>,
    /// The profile.
    pub profile: String,
    /// The number, counting from 1.
    pub revision: u64,
    /// The system.
    pub system: String,
    /// Time of publication, in seconds since 1970 by the bakery's clock.
    pub time: u64,
    /// The digest of the whole tree: contents and metadata.
    pub tree_digest: Digest,
}

impl Manifest {
    /// The merged index whose chunks are in layers only, not in a boot pack.
    pub fn by_layers(&self) -> &IndexRef {
        self.plain.as_ref().unwrap_or(&self.index)
    }

    /// Read a manifest. Its digest must have been checked before: see
    /// [`trust::verify_manifest`](crate::trust::verify_manifest).
    ///
    /// # Errors
    /// When the bytes are not the canonical form of a sound manifest.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, RecordError> {
        let manifest: Manifest = canonical::parse("manifest", bytes, MANIFEST_LEN_MAX)?;
        manifest.validate()?;
        canonical::require_canonical("manifest", bytes, &manifest)?;
        Ok(manifest)
    }

    /// The canonical bytes, which are stored; the head has their digest.
    ///
    /// # Errors
    /// A field breaks a rule, so that no reader would accept it.
    pub fn render(&self) -> Result<Vec<u8>, RecordError> {
        self.validate()?;
        canonical::render("manifest", self)
    }

    /// System and profile.
    pub fn name(&self) -> ProfileName {
        ProfileName {
            system: self.system.clone(),
            profile: self.profile.clone(),
        }
    }

    /// The server's record of the job from which this revision was made, if any.
    pub fn trailer(&self) -> Option<Trailer> {
        (self.action == Action::Bake)
            .then(|| Trailer::of(&self.message))
            .flatten()
    }

    fn validate(&self) -> Result<(), RecordError> {
        const RECORD: &str = "manifest";
        canonical::check_format(RECORD, self.format)?;
        name::check_profile_name(RECORD, &self.system, &self.profile)?;
        check(RECORD, self.revision >= 1, "revision: counts from 1")?;
        check(
            RECORD,
            self.parent.is_some() == (self.revision > 1),
            "parent: every revision except the first has one",
        )?;
        check_line(RECORD, "author", &self.author, AUTHOR_LEN_MAX)?;
        check_line(RECORD, "cmdline", &self.cmdline, CMDLINE_LEN_MAX)?;
        check_text(RECORD, "message", &self.message, MESSAGE_LEN_MAX)?;
        check(RECORD, !self.layers.is_empty(), "layers: at least one")?;
        let most = self.layers.len().max(self.borrowed.len());
        check(
            RECORD,
            most <= STACK_LEN_MAX,
            "layers, borrowed: at most 1024 each",
        )?;
        check(
            RECORD,
            is_set(self.layers.iter().map(|l| l.digest)),
            "layers: a layer twice",
        )?;
        check(
            RECORD,
            self.borrowed.is_sorted_by(|a, b| a.digest < b.digest),
            "borrowed: not in digest order, or one twice",
        )?;
        check(
            RECORD,
            is_set(self.layers.iter().chain(&self.borrowed).map(|l| l.digest)),
            "borrowed: also in layers",
        )?;
        if let Some(base) = &self.base {
            name::check_profile_name(RECORD, &self.system, &base.profile)?;
            check(
                RECORD,
                base.profile != self.profile,
                "base.profile: a profile on itself",
            )?;
            check(RECORD, base.revision >= 1, "base.revision: counts from 1")?;
            check(
                RECORD,
                usize::try_from(base.layers).is_ok_and(|n| (1..=self.layers.len()).contains(&n)),
                "base.layers: not between 1 and the number of layers",
            )?;
        }
        for index in [Some(&self.index), self.plain.as_ref()]
            .into_iter()
            .flatten()
        {
            check(
                RECORD,
                index.head_len <= index.len && index.head_len > 0,
                "index.head_len: not between 1 and index.len",
            )?;
        }
        check(
            RECORD,
            self.pack.is_some() == self.plain.is_some(),
            "plain: there exactly when pack is",
        )?;
        self.validate_integers()
    }

    fn validate_integers(&self) -> Result<(), RecordError> {
        let objects = self.layers.iter().chain(&self.borrowed);
        let objects = objects
            .chain(&self.pack)
            .chain(&self.kernel)
            .chain(&self.initrd);
        let mut integers = objects
            .map(|object| object.len)
            .chain([self.index.len, self.revision, self.time])
            .chain(self.plain.as_ref().map(|plain| plain.len))
            .chain(self.base.as_ref().map(|base| base.revision));
        check(
            "manifest",
            integers.all(|n| n <= INTEGER_MAX),
            "a number above 2^53-1",
        )
    }
}

fn is_set(digests: impl Iterator<Item = Digest>) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    let mut digests = digests;
    digests.all(|digest| seen.insert(digest))
}

#[cfg(test)]
mod tests;
