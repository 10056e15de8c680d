//! The names of a store's objects.

use std::fmt;

use layerfmt::Digest;

use super::class::Class;
use super::{NUMBER_WIDTH, full_name, is_id, number};
use crate::manifest::{ProfileName, is_machine_id, is_name};

/// The side that raised a flag (`docs/PROTOCOL.md` §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKind {
    /// A publisher.
    Publish,
    /// A sweeper, or the journal of a purge.
    Sweep,
}

impl LockKind {
    const fn name(self) -> &'static str {
        match self {
            LockKind::Publish => "publish",
            LockKind::Sweep => "sweep",
        }
    }

    /// The directory of these flags.
    pub fn directory(self) -> String {
        format!("{}/{}", Class::Lock.directory(), self.name())
    }
}

/// The name of an object of a store. [`Display`](fmt::Display) builds the path.
///
/// A tag follows the rule of profile names. The identifier of a purge, lock or probe is one component
/// of letters, digits, `.`, `_` and `-`. [`ObjectPath::parse`] refuses anything else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectPath {
    /// Makes a place a store, and names the format.
    Marker,
    /// A signed keyset.
    Keyset(u64),
    /// A signed head: creating it publishes the revision.
    Head(ProfileName, u64),
    /// A signed ring record.
    Ring(ProfileName, u64),
    /// A signed values record of a machine.
    Values(String, u64),
    /// A manifest.
    Manifest(Digest),
    /// A layer.
    Layer(Digest),
    /// A merged index.
    Index(Digest),
    /// A boot pack.
    Pack(Digest),
    /// An update pack: to a revision, from an older one.
    Update(ProfileName, u64, u64),
    /// An index delta: to a merged index, from another.
    Delta(Digest, Digest),
    /// A kernel or an initrd.
    Boot(Digest),
    /// Approximately the newest revision of a history.
    Hint(ProfileName),
    /// A tag of a history.
    Tag(ProfileName, String),
    /// The history is closed.
    Removed(ProfileName),
    /// Parts of the revision were deleted on purpose.
    Swept(ProfileName, u64),
    /// The record of a purge.
    Purge(String),
    /// A flag of a publisher or sweeper.
    Lock(LockKind, String),
    /// An object that `store check` writes and deletes again: the run, and a name.
    Probe(String, String),
}

impl ObjectPath {
    /// Reads a path, without a leading slash. `None` for anything that is not the one spelling of
    /// an object's name.
    pub fn parse(path: &str) -> Option<ObjectPath> {
        if path == Class::Marker.template() {
            return Some(ObjectPath::Marker);
        }
        let (directory, rest) = path.split_once('/')?;
        let class = Class::of_directory(directory)?;
        let digest = || -> Option<Digest> { rest.strip_suffix(class.suffix())?.parse().ok() };
        let history = || -> Option<(ProfileName, &str)> {
            let (name, last) = rest.rsplit_once('/')?;
            Some((full_name(name)?, last))
        };
        let pair = || rest.split_once('/');
        let id = |text: &str| is_id(text).then(|| text.to_owned());
        Some(match class {
            Class::Marker => return None,
            Class::Keyset => ObjectPath::Keyset(number(rest)?),
            Class::Head => {
                let (name, revision) = history()?;
                ObjectPath::Head(name, number(revision)?)
            }
            Class::Ring => {
                let (name, record) = history()?;
                ObjectPath::Ring(name, number(record)?)
            }
            Class::Values => {
                let (machine, record) = pair()?;
                let machine = is_machine_id(machine).then(|| machine.to_owned())?;
                ObjectPath::Values(machine, number(record)?)
            }
            Class::Manifest => ObjectPath::Manifest(digest()?),
            Class::Layer => ObjectPath::Layer(digest()?),
            Class::Index => ObjectPath::Index(digest()?),
            Class::Pack => ObjectPath::Pack(digest()?),
            Class::Update => {
                let (rest, from) = rest.rsplit_once('/')?;
                let (name, to) = rest.rsplit_once('/')?;
                ObjectPath::Update(full_name(name)?, number(to)?, number(from)?)
            }
            Class::Delta => {
                let (to, from) = pair()?;
                ObjectPath::Delta(to.parse().ok()?, from.parse().ok()?)
            }
            Class::Boot => ObjectPath::Boot(digest()?),
            Class::Hint => ObjectPath::Hint(full_name(rest)?),
            Class::Tag => {
                let (name, tag) = history()?;
                ObjectPath::Tag(name, is_name(tag).then(|| tag.to_owned())?)
            }
            Class::Removed => ObjectPath::Removed(full_name(rest)?),
            Class::Swept => {
                let (name, revision) = history()?;
                ObjectPath::Swept(name, number(revision)?)
            }
            Class::Purge => ObjectPath::Purge(id(rest)?),
            Class::Lock => {
                let (kind, flag) = pair()?;
                let kinds = [LockKind::Publish, LockKind::Sweep];
                let kind = kinds.into_iter().find(|one| one.name() == kind)?;
                ObjectPath::Lock(kind, id(flag)?)
            }
            Class::Probe => {
                let (run, name) = pair()?;
                ObjectPath::Probe(id(run)?, id(name)?)
            }
        })
    }

    /// Its class.
    pub const fn class(&self) -> Class {
        match self {
            ObjectPath::Marker => Class::Marker,
            ObjectPath::Keyset(_) => Class::Keyset,
            ObjectPath::Head(..) => Class::Head,
            ObjectPath::Ring(..) => Class::Ring,
            ObjectPath::Values(..) => Class::Values,
            ObjectPath::Manifest(_) => Class::Manifest,
            ObjectPath::Layer(_) => Class::Layer,
            ObjectPath::Index(_) => Class::Index,
            ObjectPath::Pack(_) => Class::Pack,
            ObjectPath::Update(..) => Class::Update,
            ObjectPath::Delta(..) => Class::Delta,
            ObjectPath::Boot(_) => Class::Boot,
            ObjectPath::Hint(_) => Class::Hint,
            ObjectPath::Tag(..) => Class::Tag,
            ObjectPath::Removed(_) => Class::Removed,
            ObjectPath::Swept(..) => Class::Swept,
            ObjectPath::Purge(_) => Class::Purge,
            ObjectPath::Lock(..) => Class::Lock,
            ObjectPath::Probe(..) => Class::Probe,
        }
    }

    /// The digest in the name of a content-named object.
    pub const fn digest(&self) -> Option<Digest> {
        match self {
            ObjectPath::Manifest(digest)
            | ObjectPath::Layer(digest)
            | ObjectPath::Index(digest)
            | ObjectPath::Pack(digest)
            | ObjectPath::Boot(digest) => Some(*digest),
            _ => None,
        }
    }

    /// The revision, version or number in the name of a numbered object.
    pub const fn number(&self) -> Option<u64> {
        match self {
            ObjectPath::Keyset(number)
            | ObjectPath::Head(_, number)
            | ObjectPath::Ring(_, number)
            | ObjectPath::Values(_, number)
            | ObjectPath::Swept(_, number) => Some(*number),
            _ => None,
        }
    }

    /// The path on a server, below the server's prefix.
    pub fn url(&self) -> String {
        format!("/{self}")
    }

    /// The directory of a history's heads.
    pub fn heads_of(name: &ProfileName) -> String {
        format!("{}/{}", Class::Head.directory(), name.full())
    }

    /// The directory of a history's ring records.
    pub fn rings_of(name: &ProfileName) -> String {
        format!("{}/{}", Class::Ring.directory(), name.full())
    }

    /// The directory of a machine's values records.
    pub fn values_of(machine: &str) -> String {
        format!("{}/{machine}", Class::Values.directory())
    }

    /// The directory of a history's update packs.
    pub fn updates_of(name: &ProfileName) -> String {
        format!("{}/{}", Class::Update.directory(), name.full())
    }

    /// The directory of the update packs to a revision.
    pub fn updates_to(name: &ProfileName, to: u64) -> String {
        format!("{}/{to:0NUMBER_WIDTH$}", Self::updates_of(name))
    }

    /// The directory of a history's tags.
    pub fn tags_of(name: &ProfileName) -> String {
        format!("{}/{}", Class::Tag.directory(), name.full())
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == ObjectPath::Marker {
            return f.write_str(Class::Marker.template());
        }
        let class = self.class();
        write!(f, "{}/", class.directory())?;
        match self {
            ObjectPath::Marker => Ok(()),
            ObjectPath::Keyset(version) => write!(f, "{version:0NUMBER_WIDTH$}"),
            ObjectPath::Head(name, revision)
            | ObjectPath::Ring(name, revision)
            | ObjectPath::Swept(name, revision) => {
                write!(f, "{}/{revision:0NUMBER_WIDTH$}", name.full())
            }
            ObjectPath::Values(machine, record) => {
                write!(f, "{machine}/{record:0NUMBER_WIDTH$}")
            }
            ObjectPath::Manifest(digest)
            | ObjectPath::Layer(digest)
            | ObjectPath::Index(digest)
            | ObjectPath::Pack(digest)
            | ObjectPath::Boot(digest) => write!(f, "{digest}{}", class.suffix()),
            ObjectPath::Update(name, to, from) => write!(
                f,
                "{}/{to:0NUMBER_WIDTH$}/{from:0NUMBER_WIDTH$}",
                name.full()
            ),
            ObjectPath::Delta(to, from) => write!(f, "{to}/{from}"),
            ObjectPath::Hint(name) | ObjectPath::Removed(name) => f.write_str(&name.full()),
            ObjectPath::Tag(name, tag) => write!(f, "{}/{tag}", name.full()),
            ObjectPath::Purge(id) => f.write_str(id),
            ObjectPath::Lock(kind, id) => write!(f, "{}/{id}", kind.name()),
            ObjectPath::Probe(run, name) => write!(f, "{run}/{name}"),
        }
    }
}
