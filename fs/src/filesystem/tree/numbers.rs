//! Directories of the upper that keep their numbers when a switch merges them with another lower
//! directory, or with none.

use std::collections::HashMap;

use layerfmt::Ino;

use crate::filesystem::reply::{NodeId, lower_id};

/// The directories that do not have the number that a new mount gives them.
#[derive(Debug, Default)]
pub(crate) struct KeptNumbers {
    /// By number in the upper.
    of_upper: HashMap<u64, NodeId>,
    /// By the row of the lower directory with which they are merged.
    of_row: HashMap<Ino, NodeId>,
}

impl KeptNumbers {
    /// The number of the directory that is object `number` of the upper, if it is not the usual one.
    pub(crate) fn of_upper(&self, number: u64) -> Option<NodeId> {
        self.of_upper.get(&number).copied()
    }

    /// The number of lower directory `row`, as it is shown.
    pub(crate) fn of_row(&self, row: Ino) -> NodeId {
        self.of_row.get(&row).copied().unwrap_or(lower_id(row))
    }

    /// All of them: numbers in the upper and here.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, NodeId)> {
        self.of_upper.iter().map(|(number, id)| (*number, *id))
    }

    /// Object `number` of the upper, a directory merged with `row`, keeps `id`; `usual` is the
    /// number that a new mount gives it.
    pub(crate) fn keep(&mut self, number: u64, row: Option<Ino>, id: NodeId, usual: NodeId) {
        self.of_row.retain(|_, known| *known != id);
        if id == usual {
            self.of_upper.remove(&number);
            return;
        }
        self.of_upper.insert(number, id);
        if let Some(row) = row {
            self.of_row.insert(row, id);
        }
    }

    /// Object `number` of the upper does not exist any more: its number can get a new object.
    pub(crate) fn forget(&mut self, number: u64) {
        if let Some(id) = self.of_upper.remove(&number) {
            self.of_row.retain(|_, known| *known != id);
        }
    }

    /// Keeps only the numbers for which `is_needed`.
    pub(crate) fn retain(&mut self, is_needed: impl Fn(NodeId) -> bool) {
        self.of_upper.retain(|_, id| is_needed(*id));
        self.of_row.retain(|_, id| is_needed(*id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_unusual_is_kept() {
        let mut kept = KeptNumbers::default();
        kept.keep(7, Some(3), 4, 4);
        assert_eq!((kept.of_upper(7), kept.of_row(3)), (None, 4));
        kept.keep(7, Some(3), 1007, 4);
        assert_eq!((kept.of_upper(7), kept.of_row(3)), (Some(1007), 1007));
        kept.keep(7, Some(5), 1007, 6);
        assert_eq!((kept.of_row(3), kept.of_row(5)), (4, 1007));
        kept.keep(8, None, 9, 1008);
        kept.forget(7);
        assert_eq!((kept.of_upper(7), kept.of_row(5)), (None, 6));
        kept.retain(|id| id != 9);
        assert_eq!(kept.iter().count(), 0);
    }
}
