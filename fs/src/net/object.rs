//! The immutable files on the servers, and the requested chunks of them.

use std::sync::Arc;

use layerfmt::Digest;
use wire::paths::{ObjectPath, Request};

/// An immutable file on the servers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Object {
    /// Its path below the server's prefix.
    pub path: String,
    /// The path for batch requests, on a bakery. Empty: ranges are requested one by one, and chunks are not
    /// cached, because other chunks are made from them.
    pub batch_path: String,
    /// The chunks can be made in another way: if no server has them, nobody waits for them.
    pub optional: bool,
}

impl Object {
    /// The layer with this digest.
    pub(crate) fn layer(digest: &Digest) -> Object {
        Object {
            path: ObjectPath::Layer(*digest).url(),
            batch_path: Request::Batch(*digest).to_string(),
            optional: false,
        }
    }

    /// The update pack at `path`.
    pub(crate) fn update(path: &ObjectPath) -> Object {
        Object {
            path: path.url(),
            batch_path: String::new(),
            optional: true,
        }
    }

    /// The boot pack with this digest.
    pub(crate) fn pack(digest: &Digest) -> Object {
        Object {
            path: ObjectPath::Pack(*digest).url(),
            batch_path: Request::Batch(*digest).to_string(),
            optional: true,
        }
    }
}

/// The stored bytes of one chunk: their position and digest.
#[derive(Debug, Clone)]
pub(crate) struct ChunkRange {
    /// The file that contains them.
    pub object: Arc<Object>,
    /// Their place in it.
    pub offset: u64,
    /// Length of the chunk.
    pub len: u32,
    /// Their digest: also the name under which they are cached and waited for.
    pub digest: Digest,
}

impl ChunkRange {
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.len))
    }
}
