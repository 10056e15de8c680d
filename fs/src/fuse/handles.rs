//! File handles: the kernel looks up `.` of a node that it has forgotten, and `..` of a directory.

use std::sync::Arc;

use fuser::ReplyEntry;

use super::Adapter;
use crate::filesystem::reply::NodeId;

impl Adapter {
    /// Answers a LOOKUP request.
    pub(super) fn look_up(&self, parent: NodeId, name: &[u8], reply: ReplyEntry) {
        match name {
            b"." => self.open_handle(parent, reply),
            b".." => Self::entry(reply, self.fs.lookup_parent(parent).map(Some)),
            name => Self::entry(reply, self.fs.lookup(parent, name)),
        }
    }

    /// Answers LOOKUP of `.`. A search through the upper runs on another thread.
    fn open_handle(&self, id: NodeId, reply: ReplyEntry) {
        match self.fs.lookup_self(id) {
            Ok(None) => {}
            found => return Self::entry(reply, found),
        }
        let fs = Arc::clone(&self.fs);
        let search = move || Self::entry(reply, fs.search_self(id).map(Some));
        // Only root and the NFS server use handles, so this many threads suffice.
        if let Err(error) = std::thread::Builder::new()
            .name("search".to_owned())
            .spawn(search)
        {
            tracing::error!(%error, "cannot start a thread for a search: a file handle gets EIO");
        }
    }
}
