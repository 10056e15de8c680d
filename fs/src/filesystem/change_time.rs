//! The change time (`st_ctime`) that an object keeps although a copy-up changed that of the upper's
//! file system: for parent directories of copied-up objects, and for copied-up objects that were
//! not changed.
//!
//! It is valid as long as the object has the recorded modification time, which every change of data
//! or names updates. Changes of attributes only pass through the daemon, which then drops it.

use rustix::fs::{Stat, XattrFlags};

use super::reply::{Attr, NodeId, Time};
use super::tree::{Node, Tree};
use super::{LayerFs, lock};
use crate::sys::Result;
use crate::sys::object::At;

/// Version of the note's form.
const NOTE_VERSION: u8 = 1;

/// A change time that is shown in place of the upper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeTime {
    /// It is valid while the modification time is this.
    pub mtime: Time,
    /// The time to show.
    pub ctime: Time,
    /// True if the upper has a note of it.
    pub stored: bool,
}

impl ChangeTime {
    /// Parses a note; `None` if it is invalid.
    pub(super) fn from_note(note: &[u8]) -> Option<ChangeTime> {
        let (&version, rest) = note.split_first()?;
        let (mtime, rest) = time_from(rest)?;
        let (ctime, rest) = time_from(rest)?;
        (version == NOTE_VERSION && rest.is_empty()).then_some(ChangeTime {
            mtime,
            ctime,
            stored: true,
        })
    }

    /// Version, modification time and change time.
    pub(super) fn note(&self) -> Vec<u8> {
        let mut note = vec![NOTE_VERSION];
        for (seconds, nanoseconds) in [self.mtime, self.ctime] {
            note.extend_from_slice(&seconds.to_le_bytes());
            note.extend_from_slice(&nanoseconds.to_le_bytes());
        }
        note
    }
}

/// Seconds and nanoseconds, little-endian, and the rest.
fn time_from(note: &[u8]) -> Option<(Time, &[u8])> {
    let (seconds, rest) = note.split_first_chunk::<8>()?;
    let (nanoseconds, rest) = rest.split_first_chunk::<4>()?;
    let nanoseconds = u32::from_le_bytes(*nanoseconds);
    (nanoseconds < 1_000_000_000).then(|| ((i64::from_le_bytes(*seconds), nanoseconds), rest))
}

impl Node {
    /// True if the shown change time is not that of the upper.
    pub(super) fn keeps_change_time(&self) -> bool {
        lock(&self.change_time).is_some()
    }

    /// Puts the preserved change time into `attr`.
    pub(super) fn show_change_time(&self, attr: &mut Attr) {
        if let Some(kept) = lock(&self.change_time).as_ref()
            && kept.mtime == attr.mtime
        {
            attr.ctime = kept.ctime;
        }
    }

    /// The change time to show while the upper's file system returns `stat`.
    pub(super) fn change_time(&self, stat: &Stat) -> ChangeTime {
        let attr = Attr::from_stat(0, stat);
        match lock(&self.change_time).as_deref() {
            Some(kept) if kept.mtime == attr.mtime => *kept,
            _ => ChangeTime {
                mtime: attr.mtime,
                ctime: attr.ctime,
                stored: false,
            },
        }
    }
}

impl LayerFs {
    /// Have `node` keep the change time it shows now, as long as the modification time in `stat` stays: also after a remount
    /// with `store`, if there is room for the note.
    pub(super) fn keep_change_time(
        &self,
        node: &Node,
        at: &At<'_>,
        stat: &Stat,
        store: bool,
    ) -> Result<()> {
        let mut kept = node.change_time(stat);
        if kept.stored {
            // This value is stored already.
            return Ok(());
        }
        if store {
            let name = &self.upper()?.marks.change_time;
            kept.stored = at
                .set_xattr(name, &kept.note(), XattrFlags::empty())
                .is_ok();
        }
        *lock(&node.change_time) = Some(Box::new(kept));
        Ok(())
    }

    /// Updates the node `id` like [`LayerFs::forget_change_time`].
    pub(super) fn changed(&self, tree: &Tree, id: NodeId, at: &At<'_>) {
        if let Some(node) = tree.get(id) {
            self.forget_change_time(node, at);
        }
    }

    /// Something changed `node` itself: from now on its change time is the upper's.
    pub(super) fn forget_change_time(&self, node: &Node, at: &At<'_>) {
        let Some(kept) = lock(&node.change_time).take() else {
            return;
        };
        if kept.stored
            && let Some(upper) = &self.upper
        {
            let _ = at.remove_xattr(&upper.marks.change_time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_round_trip_and_others_are_none() {
        let kept = ChangeTime {
            mtime: (-7, 999_999_999),
            ctime: (1 << 40, 0),
            stored: true,
        };
        let note = kept.note();
        assert_eq!(ChangeTime::from_note(&note), Some(kept));
        assert_eq!(ChangeTime::from_note(&note[..24]), None);
        assert_eq!(ChangeTime::from_note(&[&note[..], &[0]].concat()), None);
        assert_eq!(ChangeTime::from_note(&[9; 25]), None);
        assert_eq!(ChangeTime::from_note(b""), None);
    }
}
