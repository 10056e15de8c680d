//! The kinds of objects that a store holds.

/// The time for which a copy of an object stays valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The object is named by its content: a copy is right for ever.
    Immutable,
    /// The object can appear, change or disappear under its name, so it must be requested again
    /// each time.
    Record,
}

/// A kind of object; each kind has a directory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the table of docs/PROTOCOL.md describes each")]
pub enum Class {
    Marker,
    Keyset,
    Head,
    Ring,
    Values,
    Manifest,
    Layer,
    Index,
    Pack,
    Update,
    Delta,
    Boot,
    Hint,
    Tag,
    Removed,
    Swept,
    Purge,
    Lock,
    Probe,
}

impl Class {
    /// Every class, in the order of the specification's table.
    pub const ALL: [Class; 19] = [
        Class::Marker,
        Class::Keyset,
        Class::Head,
        Class::Ring,
        Class::Values,
        Class::Manifest,
        Class::Layer,
        Class::Index,
        Class::Pack,
        Class::Update,
        Class::Delta,
        Class::Boot,
        Class::Hint,
        Class::Tag,
        Class::Removed,
        Class::Swept,
        Class::Purge,
        Class::Lock,
        Class::Probe,
    ];

    /// The classes whose objects are named by their content.
    pub const CONTENT: [Class; 5] = [
        Class::Layer,
        Class::Index,
        Class::Pack,
        Class::Boot,
        Class::Manifest,
    ];

    /// The directory of the class; the marker is in the store's root.
    pub const fn directory(self) -> &'static str {
        match self {
            Class::Marker => "",
            Class::Keyset => "keysets",
            Class::Head => "refs",
            Class::Ring => "rings",
            Class::Values => "values",
            Class::Manifest => "manifests",
            Class::Layer => "layers",
            Class::Index => "indexes",
            Class::Pack => "packs",
            Class::Update => "updates",
            Class::Delta => "deltas",
            Class::Boot => "boot",
            Class::Hint => "hints",
            Class::Tag => "tags",
            Class::Removed => "removed",
            Class::Swept => "swept",
            Class::Purge => "purges",
            Class::Lock => "locks",
            Class::Probe => "probe",
        }
    }

    /// The class of the objects in `directory`.
    pub(crate) fn of_directory(directory: &str) -> Option<Class> {
        let named = |class: &Class| !directory.is_empty() && class.directory() == directory;
        Class::ALL.into_iter().find(named)
    }

    /// The end of each name; files that are named by content, and that people see, show their kind.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Class::Layer | Class::Pack => ".layer",
            Class::Index => ".index",
            _ => "",
        }
    }

    /// The time for which a copy of an object of this class stays valid.
    pub const fn lifetime(self) -> Lifetime {
        match self {
            Class::Manifest | Class::Layer | Class::Index | Class::Pack | Class::Boot => {
                Lifetime::Immutable
            }
            _ => Lifetime::Record,
        }
    }

    /// True if clients may request objects of this class from a server.
    pub const fn is_served(self) -> bool {
        match self {
            Class::Manifest | Class::Layer | Class::Index | Class::Pack | Class::Boot => true,
            Class::Keyset | Class::Head | Class::Ring | Class::Hint | Class::Update => true,
            Class::Values | Class::Delta => true,
            Class::Marker | Class::Tag | Class::Removed | Class::Swept => false,
            Class::Purge | Class::Lock | Class::Probe => false,
        }
    }

    /// The media type of an answer with an object of this class.
    pub const fn media_type(self) -> &'static str {
        match self {
            Class::Layer | Class::Index | Class::Pack | Class::Boot => "application/octet-stream",
            Class::Update | Class::Delta => "application/octet-stream",
            Class::Hint => "text/plain",
            _ => "application/json",
        }
    }

    /// The form of a name, as the specification's table writes it.
    pub const fn template(self) -> &'static str {
        match self {
            Class::Marker => "store.json",
            Class::Keyset => "keysets/<version>",
            Class::Head => "refs/<system>/<profile>/<revision>",
            Class::Ring => "rings/<system>/<profile>/<number>",
            Class::Values => "values/<machine>/<number>",
            Class::Manifest => "manifests/<hex>",
            Class::Layer => "layers/<hex>.layer",
            Class::Index => "indexes/<hex>.index",
            Class::Pack => "packs/<hex>.layer",
            Class::Update => "updates/<system>/<profile>/<to>/<from>",
            Class::Delta => "deltas/<to>/<from>",
            Class::Boot => "boot/<hex>",
            Class::Hint => "hints/<system>/<profile>",
            Class::Tag => "tags/<system>/<profile>/<tag>",
            Class::Removed => "removed/<system>/<profile>",
            Class::Swept => "swept/<system>/<profile>/<revision>",
            Class::Purge => "purges/<id>",
            Class::Lock => "locks/<kind>/<id>",
            Class::Probe => "probe/<id>/<name>",
        }
    }
}
