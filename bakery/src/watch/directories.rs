//! Events of the spool's directories.
//!
//! They only wake the watcher: the contents are always read from the directories themselves, so a
//! lost event only costs one rescan interval. Each directory is watched separately, so an
//! unreadable one does not affect the others.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Event;
use super::writers::Writers;

/// The watched directories.
pub(super) struct DirectoryWatches {
    watcher: RecommendedWatcher,
    watched: HashSet<PathBuf>,
}

impl DirectoryWatches {
    /// Watches no directory yet; events are sent to `sender`, and those about writers to `writers`.
    pub(super) fn new(writers: &Writers, sender: mpsc::Sender<Event>) -> notify::Result<Self> {
        let writers = writers.clone();
        let hear = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            writers.hear(&event);
            // Opening and reading are not events; closing by a writer is.
            let is_closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
            if !event.kind.is_access() || event.kind == is_closed {
                let _ = sender.send(Event::Spool);
            }
        };
        Ok(Self {
            watcher: notify::recommended_watcher(hear)?,
            watched: HashSet::new(),
        })
    }

    /// Watches one more directory.
    pub(super) fn watch(&mut self, directory: &Path) -> notify::Result<()> {
        self.watcher.watch(directory, RecursiveMode::NonRecursive)?;
        self.watched.insert(directory.to_owned());
        Ok(())
    }

    /// Watches new directories of the inbox, and drops deleted ones. Returns true if there was a
    /// new one: files that arrived before its watch sent no event.
    pub(super) fn follow(&mut self, inbox: &Path, directories: &HashSet<PathBuf>) -> bool {
        self.watched
            .retain(|path| path == inbox || !path.starts_with(inbox) || directories.contains(path));
        let mut is_new = false;
        for directory in directories {
            // A directory that cannot be watched is read at each rescan.
            is_new |= !self.watched.contains(directory) && self.watch(directory).is_ok();
        }
        is_new
    }
}
