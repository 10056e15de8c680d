//! Contents of files by their bytes, with the place of each.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::digest::Digest;
use crate::index::Extent;

/// The content of a regular file: its extents and its digest. Clones share their memory: a tree may
/// have millions of files.
#[derive(Debug, Clone)]
pub struct Content(Arc<Located>);

#[derive(Debug)]
struct Located {
    identity: Identity,
    extents: Extents,
}

/// Bytes, independent of their position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

/// Nearly every small file has one extent, which then needs no memory of its own.
#[derive(Debug)]
enum Extents {
    One(Extent),
    Any(Box<[Extent]>),
}

impl Content {
    /// A content of `size` bytes with this digest. Chunk numbers of `extents` are those of the
    /// writer.
    pub fn new(size: u64, digest: Digest, extents: &[Extent]) -> Content {
        let extents = match extents {
            [one] => Extents::One(*one),
            any => Extents::Any(any.into()),
        };
        let identity = Identity { size, digest };
        Content(Arc::new(Located { identity, extents }))
    }

    /// Length, bytes.
    pub fn size(&self) -> u64 {
        self.0.identity.size
    }

    /// The content digest (`docs/FORMAT.md` §9.2).
    pub fn digest(&self) -> Digest {
        self.0.identity.digest
    }

    /// The extents; chunk numbers are those of the writer.
    pub fn extents(&self) -> &[Extent] {
        match &self.0.extents {
            Extents::One(one) => std::slice::from_ref(one),
            Extents::Any(any) => any,
        }
    }
}

/// Contents are equal if their bytes are, independent of position.
impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.0.identity == other.0.identity
    }
}

impl Eq for Content {}

impl Hash for Content {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.identity.hash(state);
    }
}

/// A set of contents is searched by their bytes.
impl Borrow<Identity> for Content {
    fn borrow(&self) -> &Identity {
        &self.0.identity
    }
}
