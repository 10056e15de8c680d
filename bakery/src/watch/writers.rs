//! Detects writers of a dropped file. There are three signs, because none is always available. A
//! lease is certain, but the kernel grants one only for our own files or with CAP_LEASE (the
//! shipped unit has it), and not on network file systems. The events of the directory show closed
//! files while the watcher runs. For other files the zstd frames decide: a truncated archive is not
//! complete.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind, RenameMode};

use super::frames::{self, FrameEnd};

/// Files that were written while we watched and not closed since. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Writers {
    open: Arc<Mutex<HashSet<PathBuf>>>,
}

/// The reason why a file is not queued yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// A process has it open for writing.
    Open,
    /// It ends in the middle of the archive, and its writer is unknown.
    CutOff,
}

impl Writers {
    /// Records an event of the directory.
    pub(super) fn hear(&self, event: &Event) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if event.need_rescan() {
            // Events were lost: the known state may be wrong.
            open.clear();
            return;
        }
        match event.kind {
            // A new name does not prove a writer: a link creates one too.
            EventKind::Modify(ModifyKind::Data(_)) => {
                open.extend(event.paths.iter().cloned());
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                for path in &event.paths {
                    open.remove(path);
                }
            }
            _ => {}
        }
    }

    /// The reason why `path` must wait; `None` if it may be taken.
    pub(super) fn unfinished(&self, path: &Path) -> Option<Unfinished> {
        let file = File::open(path).ok()?;
        match crate::sys::lease::has_writer(&file) {
            Some(true) => return Some(Unfinished::Open),
            Some(false) => return None,
            None => {}
        }
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.contains(path) {
            return Some(Unfinished::Open);
        }
        drop(open);
        match frames::end(&file) {
            Ok(FrameEnd::CutOff) => Some(Unfinished::CutOff),
            // A file of another kind is queued: its job reports the fault.
            Ok(FrameEnd::Whole | FrameEnd::NoFrames) | Err(_) => None,
        }
    }
}
