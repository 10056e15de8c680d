//! The lower directories that directories of the upper show: no lower directory may be shown twice,
//! because its number and its place then belong to two directories.

use std::collections::{HashMap, HashSet};

use layerfmt::{Index, Ino, ROOT};

use super::conflict::{Conflict, Ours, Theirs};
use super::survey::child;

/// What the upper does with the directories of a revision.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Directories of the upper that were moved: the row that each shows, and its path.
    pub(super) of_moved: Vec<(Ino, Vec<u8>)>,
    /// Rows that are not shown at their own place.
    covered: HashSet<Ino>,
}

impl Claims {
    /// `row` is not shown at its own place.
    pub(super) fn cover(&mut self, row: Ino) {
        self.covered.insert(row);
    }

    /// `name` in `dir` is another object, or hidden.
    pub(super) fn cover_name(&mut self, index: &Index, dir: Option<Ino>, name: &[u8]) {
        if let Some(row) = child(index, dir, name) {
            self.cover(row);
        }
    }

    /// The moved directories whose lower directory is also shown elsewhere.
    pub(super) fn conflicts(&self, index: &Index) -> Vec<Conflict> {
        let mut shown: HashMap<Ino, usize> = HashMap::new();
        for (row, _) in &self.of_moved {
            *shown.entry(*row).or_default() += 1;
        }
        let moved: HashSet<Ino> = shown.keys().copied().collect();
        for (row, count) in &mut shown {
            *count += usize::from(self.is_at_its_place(index, *row, &moved));
        }
        let twice = self.of_moved.iter().filter(|(row, _)| {
            let count = shown.get(row);
            count.is_some_and(|count| *count > 1)
        });
        let conflict = |(_, path): &(Ino, Vec<u8>)| Conflict {
            path: path.clone(),
            ours: Ours::Moved,
            theirs: Theirs::Beside,
            forbids: true,
        };
        twice.map(conflict).collect()
    }

    fn is_at_its_place(&self, index: &Index, row: Ino, moved: &HashSet<Ino>) -> bool {
        let mut at = row;
        loop {
            if self.covered.contains(&at) {
                return false;
            }
            if at == ROOT {
                return true;
            }
            at = index.parent(at);
            if moved.contains(&at) {
                return true;
            }
        }
    }
}
