//! The `passthrough` mode: the kernel reads and writes files of the upper itself. The kernel allows
//! only one way of access to an inode at a time: as long as a file is open through the daemon (it
//! was opened while its data was in the lower), further opens use the daemon too.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fuser::{BackingId, FileHandle};

use crate::filesystem::reply::NodeId;
use crate::sys::identity;

/// Handle of an open through the daemon.
pub(super) const CACHED: FileHandle = FileHandle(0);
/// Handle of an open past the daemon.
pub(super) const PASSED: FileHandle = FileHandle(1);

#[derive(Debug, Default)]
struct Opens {
    cached: u64,
    passed: u64,
    backing: Option<Arc<BackingId>>,
}

/// The open files and their modes.
#[derive(Debug, Default)]
pub(super) struct OpenTable {
    files: Mutex<HashMap<NodeId, Opens>>,
    refused: AtomicBool,
}

impl OpenTable {
    /// Opens `id`: past the daemon, if its data is in `file` and `register` succeeds; else `None`,
    /// through the daemon.
    pub(super) fn open(
        &self,
        id: NodeId,
        file: Option<Arc<OwnedFd>>,
        register: impl FnOnce(&OwnedFd) -> std::io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let opens = files.entry(id).or_default();
        if let Some(backing) = &opens.backing {
            opens.passed += 1;
            return Some(Arc::clone(backing));
        }
        let file = file.filter(|_| opens.cached == 0);
        // The kernel writes with the permissions of the registering process, and must clear
        // set-user-ID.
        let register = |file: &OwnedFd| identity::without_fsetid(|| register(file))?;
        let registered = file.and_then(|file| match register(&file) {
            Ok(backing) => Some(Arc::new(backing)),
            Err(error) => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the kernel refuses passthrough: layerfs reads and writes the files");
                }
                None
            }
        });
        match registered {
            Some(backing) => {
                opens.passed = 1;
                opens.backing = Some(Arc::clone(&backing));
                Some(backing)
            }
            None => {
                opens.cached += 1;
                None
            }
        }
    }

    /// One open of `id` is over.
    pub(super) fn release(&self, id: NodeId, handle: FileHandle) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(opens) = files.get_mut(&id) else {
            return;
        };
        if handle == PASSED {
            opens.passed = opens.passed.saturating_sub(1);
            if opens.passed == 0 {
                opens.backing = None;
            }
        } else {
            opens.cached = opens.cached.saturating_sub(1);
        }
        if opens.cached == 0 && opens.passed == 0 {
            files.remove(&id);
        }
    }
}
