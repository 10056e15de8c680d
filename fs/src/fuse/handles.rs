//! File handles: the kernel looks up `.` of a node that it has forgotten, and `..` of a directory.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::ReplyEntry;

use super::Adapter;
use super::answers::RequestContext;
use crate::filesystem::LayerFs;
use crate::filesystem::reply::NodeId;
use crate::metrics::Operation;

/// Handles whose objects are searched for in the upper. One thread serves them all, because the
/// result of one search is valid for the next.
#[derive(Default)]
pub(super) struct Searches {
    state: Mutex<OpenState>,
}

#[derive(Default)]
struct OpenState {
    waiting: VecDeque<(NodeId, ReplyEntry)>,
    /// True while the thread exists; it ends when `waiting` is empty.
    runs: bool,
}

impl Searches {
    fn lock(&self) -> MutexGuard<'_, OpenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Searches>, fs: &Arc<LayerFs>, id: NodeId, reply: ReplyEntry) {
        let mut state = self.lock();
        state.waiting.push_back((id, reply));
        if state.runs {
            return;
        }
        let (searches, fs) = (Arc::clone(self), Arc::clone(fs));
        let started = std::thread::Builder::new()
            .name(String::from("search"))
            .spawn(move || searches.work(&fs));
        match started {
            Ok(_) => state.runs = true,
            Err(error) => {
                tracing::error!(%error, "no thread for a search: a file handle gets EIO");
                state.waiting.clear();
            }
        }
    }

    fn work(&self, fs: &LayerFs) {
        while let Some((id, reply)) = self.next() {
            let asked = RequestContext {
                fs,
                operation: Operation::Lookup,
                node: id,
            };
            let search = || asked.entry(reply, fs.search_self(id).map(Some));
            if catch_unwind(AssertUnwindSafe(search)).is_err() {
                tracing::error!(
                    "a search for a file handle caused a panic in layerfs: it gets EIO"
                );
            }
        }
    }

    fn next(&self) -> Option<(NodeId, ReplyEntry)> {
        let mut state = self.lock();
        let next = state.waiting.pop_front();
        state.runs = next.is_some();
        next
    }
}

impl Adapter {
    /// Answers a LOOKUP request.
    pub(super) fn look_up(&self, asked: &RequestContext<'_>, name: &[u8], reply: ReplyEntry) {
        let parent = asked.node;
        match name {
            b"." => self.open_handle(asked, reply),
            b".." => asked.entry(reply, self.fs.lookup_parent(parent).map(Some)),
            name => asked.entry(reply, self.fs.lookup(parent, name)),
        }
    }

    /// Answers LOOKUP of `.`. A search through the upper runs on another thread.
    fn open_handle(&self, asked: &RequestContext<'_>, reply: ReplyEntry) {
        match self.fs.lookup_self(asked.node) {
            Ok(None) => self.searches.add(&self.fs, asked.node, reply),
            found => asked.entry(reply, found),
        }
    }
}
