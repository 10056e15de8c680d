//! The names of a store's objects as text; [`wire::paths`] has the layout.

use std::fmt;

use layerfmt::Digest;
use wire::manifest::ProfileName;
use wire::paths::{LockKind, ObjectPath};

/// The name of an object of the store. A listing can hold names that are none of the layout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl From<ObjectPath> for Key {
    fn from(path: ObjectPath) -> Key {
        Key(path.to_string())
    }
}

impl Key {
    /// The object that marks a place as a store.
    pub fn marker() -> Key {
        ObjectPath::Marker.into()
    }

    /// A layer.
    pub fn layer(digest: &Digest) -> Key {
        ObjectPath::Layer(*digest).into()
    }

    /// A merged index.
    pub fn index(digest: &Digest) -> Key {
        ObjectPath::Index(*digest).into()
    }

    /// A boot pack.
    pub fn pack(digest: &Digest) -> Key {
        ObjectPath::Pack(*digest).into()
    }

    /// An update pack: from one revision to a later one.
    pub fn update(name: &ProfileName, to: u64, from: u64) -> Key {
        ObjectPath::Update(name.clone(), to, from).into()
    }

    /// An index delta: to a merged index, from another.
    pub fn delta(to: &Digest, from: &Digest) -> Key {
        ObjectPath::Delta(*to, *from).into()
    }

    /// A kernel or an initrd.
    pub fn boot(digest: &Digest) -> Key {
        ObjectPath::Boot(*digest).into()
    }

    /// A manifest.
    pub fn manifest(digest: &Digest) -> Key {
        ObjectPath::Manifest(*digest).into()
    }

    /// A keyset.
    pub fn keyset(version: u64) -> Key {
        ObjectPath::Keyset(version).into()
    }

    /// A head; creating it publishes the revision.
    pub fn head(name: &ProfileName, revision: u64) -> Key {
        ObjectPath::Head(name.clone(), revision).into()
    }

    /// A ring record.
    pub fn ring(name: &ProfileName, number: u64) -> Key {
        ObjectPath::Ring(name.clone(), number).into()
    }

    /// A values record of a machine.
    pub fn values(machine: &str, number: u64) -> Key {
        ObjectPath::Values(machine.to_owned(), number).into()
    }

    /// The hint about a history's newest revision.
    pub fn hint(name: &ProfileName) -> Key {
        ObjectPath::Hint(name.clone()).into()
    }

    /// A tag.
    pub fn tag(name: &ProfileName, tag: &str) -> Key {
        ObjectPath::Tag(name.clone(), tag.into()).into()
    }

    /// The mark of a closed history.
    pub fn removed(name: &ProfileName) -> Key {
        ObjectPath::Removed(name.clone()).into()
    }

    /// The mark of a revision of which parts were deleted on purpose.
    pub fn swept(name: &ProfileName, revision: u64) -> Key {
        ObjectPath::Swept(name.clone(), revision).into()
    }

    /// The record of a purge.
    pub fn purge(id: &str) -> Key {
        ObjectPath::Purge(id.into()).into()
    }

    /// A name from a record of ours.
    pub(crate) fn of_record(text: &str) -> Key {
        Key(text.to_owned())
    }

    /// A flag: see [`guard`](super::guard).
    pub fn lock(kind: LockKind, id: &str) -> Key {
        ObjectPath::Lock(kind, id.into()).into()
    }

    /// An object that `store check` writes and deletes again.
    pub fn probe(id: &str, name: &str) -> Key {
        ObjectPath::Probe(id.into(), name.into()).into()
    }

    pub(crate) fn from_listing(path: &object_store::path::Path) -> Key {
        Key(path.to_string())
    }

    pub(crate) fn path(&self) -> object_store::path::Path {
        object_store::path::Path::from(self.0.as_str())
    }

    /// The key as text, with slashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The object of the layout with this name; `None` for a stray file of a listing.
    pub fn object(&self) -> Option<ObjectPath> {
        ObjectPath::parse(&self.0)
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The digest in the name of a content-named object.
    pub fn digest(&self) -> Option<Digest> {
        self.object()?.digest()
    }

    /// The number in the name of a head, ring record or keyset.
    pub fn number(&self) -> Option<u64> {
        self.object()?.number()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_a_stray_file_is_none() {
        let name: ProfileName = "alt/lab".parse().unwrap();
        assert_eq!(Key::head(&name, 10).number(), Some(10));
        let digest = Digest::of(b"x");
        assert_eq!(Key::layer(&digest).digest(), Some(digest));
        assert_eq!(Key::layer(&digest).number(), None);
        let stray = Key::of_record("layers/core.1234");
        assert_eq!((stray.digest(), stray.object()), (None, None));
    }
}
