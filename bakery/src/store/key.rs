//! The layout of the store, which is also the layout of its URLs (`docs/PROTOCOL.md`).

use std::fmt;

use layerfmt::Digest;
use wire::manifest::ProfileName;

/// Digits of a revision or version in a name: so many that names sort like numbers.
const NUMBER_WIDTH: usize = 20;

/// The name of an object of the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Marks a place as a store, with its format.
    pub fn marker() -> Key {
        Key("store.json".into())
    }

    /// `layers/HEX.layer`
    pub fn layer(digest: &Digest) -> Key {
        Key(format!("layers/{digest}.layer"))
    }

    /// `indexes/HEX.index`
    pub fn index(digest: &Digest) -> Key {
        Key(format!("indexes/{digest}.index"))
    }

    /// `packs/HEX.layer`
    pub fn pack(digest: &Digest) -> Key {
        Key(format!("packs/{digest}.layer"))
    }

    /// `boot/HEX`: a kernel or an initrd.
    pub fn boot(digest: &Digest) -> Key {
        Key(format!("boot/{digest}"))
    }

    /// The key `manifests/HEX`.
    pub fn manifest(digest: &Digest) -> Key {
        Key(format!("manifests/{digest}"))
    }

    /// The key `keysets/VERSION`.
    pub fn keyset(version: u64) -> Key {
        Key(format!("keysets/{version:0NUMBER_WIDTH$}"))
    }

    /// `refs/SYSTEM/PROFILE/REVISION`: creating it publishes a revision.
    pub fn head(name: &ProfileName, revision: u64) -> Key {
        Key(format!("{}/{revision:0NUMBER_WIDTH$}", Key::heads(name)))
    }

    /// The directory of a history's heads.
    pub fn heads(name: &ProfileName) -> String {
        format!("refs/{}", name.full())
    }

    /// `hints/SYSTEM/PROFILE`: approximately the newest revision.
    pub fn hint(name: &ProfileName) -> Key {
        Key(format!("hints/{}", name.full()))
    }

    /// `tags/SYSTEM/PROFILE/TAG`
    pub fn tag(name: &ProfileName, tag: &str) -> Key {
        Key(format!("{}/{tag}", Key::tags(name)))
    }

    /// The directory of a history's tags.
    pub fn tags(name: &ProfileName) -> String {
        format!("tags/{}", name.full())
    }

    /// `removed/SYSTEM/PROFILE`: the history is closed.
    pub fn removed(name: &ProfileName) -> Key {
        Key(format!("removed/{}", name.full()))
    }

    /// `swept/SYSTEM/PROFILE/REVISION`: parts of the revision were deleted on purpose.
    pub fn swept(name: &ProfileName, revision: u64) -> Key {
        Key(format!("swept/{}/{revision:0NUMBER_WIDTH$}", name.full()))
    }

    /// The object with the same name in another directory of the layout: `swept/…` for `refs/…`.
    pub fn beside(key: &Key, directory: &str) -> Key {
        let rest = key.0.split_once('/').map_or("", |(_, rest)| rest);
        Key(format!("{directory}/{rest}"))
    }

    /// `purges/ID`: the record of a purge.
    pub fn purge(id: &str) -> Key {
        Key(format!("purges/{id}"))
    }

    /// A name from a record of ours.
    pub(crate) fn of_record(text: &str) -> Key {
        Key(text.to_owned())
    }

    /// `locks/KIND/ID`: see [`guard`](super::guard).
    pub fn lock(kind: &str, id: &str) -> Key {
        Key(format!("locks/{kind}/{id}"))
    }

    /// `probe/ID/NAME`: a temporary object of `store check`.
    pub fn probe(id: &str, name: &str) -> Key {
        Key(format!("probe/{id}/{name}"))
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

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The digest that a content-named object's name holds.
    pub fn digest(&self) -> Option<Digest> {
        self.file_name().split('.').next()?.parse().ok()
    }

    /// The number that a head's or keyset's name holds.
    pub fn number(&self) -> Option<u64> {
        let name = self.file_name();
        (name.len() == NUMBER_WIDTH).then(|| name.parse().ok())?
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
    fn names_sort_like_numbers_and_are_read_back() {
        let name: ProfileName = "alt/lab".parse().unwrap();
        let (nine, ten) = (Key::head(&name, 9), Key::head(&name, 10));
        assert!(nine < ten);
        assert_eq!(ten.as_str(), "refs/alt/lab/00000000000000000010");
        assert_eq!(ten.number(), Some(10));
        let digest = Digest::of(b"x");
        assert_eq!(Key::layer(&digest).digest(), Some(digest));
        assert_eq!(Key::layer(&digest).number(), None);
    }
}
