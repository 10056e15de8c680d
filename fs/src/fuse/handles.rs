//! File handles: the kernel asks for `.` of a node that it has forgotten, and for `..` of a directory.

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

    /// Answer LOOKUP of `.`. A search through the upper is not made on the thread the request came on.
    fn open_handle(&self, id: NodeId, reply: ReplyEntry) {
        match self.fs.lookup_self(id) {
            Ok(None) => {}
            found => return Self::entry(reply, found),
        }
        let fs = Arc::clone(&self.fs);
        let search = move || Self::entry(reply, fs.search_self(id).map(Some));
        // Whoever asks for a handle is root, or the NFS server: so many threads as that has at most.
        if let Err(error) = std::thread::Builder::new()
            .name("search".to_owned())
            .spawn(search)
        {
            tracing::error!(%error, "cannot start a thread for a search: a file handle gets EIO");
        }
    }
}
