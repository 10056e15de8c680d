//! Which lower row an object of the upper was copied up from. A mark names the row of one stack; after
//! a switch to another revision the mount has rows under other numbers.

use std::collections::HashMap;

use layerfmt::Ino;

use super::marks::StackDigest;

/// The rows of the stack in use, as marks name them.
#[derive(Debug, Clone)]
pub struct Origins {
    digest: StackDigest,
    /// After a switch: the numbers of the rows here and in the revision's own index.
    numbers: Option<RowNumbers>,
    /// The rows here of marks that the upper had before the switch; `None`: of no row. An object of
    /// such a mark has a number of its own, and keeps it.
    earlier: EarlierRows,
}

/// Rows by mark.
pub(crate) type EarlierRows = HashMap<Vec<u8>, Option<Ino>>;

#[derive(Debug, Clone)]
struct RowNumbers {
    here: Vec<Ino>,
    own: Vec<Ino>,
}

impl Origins {
    /// For a stack with this digest, whose rows have their own numbers.
    pub fn new(digest: &[u8; 32]) -> Origins {
        Origins {
            digest: StackDigest::new(digest),
            numbers: None,
            earlier: HashMap::new(),
        }
    }

    /// For a stack whose row `row` is here `here[row]`.
    pub(crate) fn renumbered(digest: StackDigest, here: Vec<Ino>, earlier: EarlierRows) -> Origins {
        let count = here.iter().max().map_or(0, |row| *row as usize + 1);
        let mut own = vec![Ino::MAX; count];
        for (row, place) in (0..).zip(&here) {
            if let Some(slot) = own.get_mut(*place as usize) {
                *slot = row;
            }
        }
        Origins {
            digest,
            numbers: Some(RowNumbers { here, own }),
            earlier,
        }
    }

    /// Names the rows of the revision's own index.
    pub(crate) fn stack(&self) -> StackDigest {
        self.digest
    }

    /// After a switch: the rows here of the revision's own rows.
    pub(crate) fn rows(&self) -> Option<&[Ino]> {
        let numbers = self.numbers.as_ref()?;
        Some(&numbers.here)
    }

    /// The row here of `row` of the revision's own index.
    pub(crate) fn here_row(&self, row: Ino) -> Ino {
        let here = |rows: &[Ino]| rows.get(row as usize).copied();
        self.rows()
            .map_or(row, |rows| here(rows).unwrap_or(Ino::MAX))
    }

    /// Adds marks from before the switch.
    pub(crate) fn learn(&mut self, earlier: EarlierRows) {
        self.earlier.extend(earlier);
    }

    /// The marks from before the switch, and their rows.
    pub(crate) fn earlier(&self) -> &EarlierRows {
        &self.earlier
    }

    /// Number of rows of the revision's own index, after a switch.
    pub(crate) fn row_count(&self) -> Option<u32> {
        let numbers = self.numbers.as_ref()?;
        u32::try_from(numbers.here.len()).ok()
    }

    /// The number of `row` in the revision's own index.
    pub(crate) fn own_row(&self, row: Ino) -> Ino {
        let own = |numbers: &RowNumbers| numbers.own.get(row as usize).copied();
        self.numbers
            .as_ref()
            .map_or(row, |numbers| own(numbers).unwrap_or(Ino::MAX))
    }

    /// The mark of a copy of `row`. If objects of the upper have that mark and are not copies of
    /// `row`, the mark of no row.
    pub(crate) fn origin(&self, row: Ino) -> Vec<u8> {
        let mark = self.digest.origin(self.own_row(row));
        match self.earlier.get(&mark) {
            Some(known) if *known != Some(row) => self.digest.origin(Ino::MAX),
            _ => mark,
        }
    }

    /// The row that a mark names, if it is of this stack or is known from an earlier one.
    pub(crate) fn row(&self, mark: &[u8]) -> Option<Ino> {
        // The copy is older than the switch: it keeps its number.
        if let Some(row) = self.earlier.get(mark) {
            return *row;
        }
        let row = self.digest.origin_row(mark)?;
        match &self.numbers {
            None => Some(row),
            Some(numbers) => numbers.here.get(row as usize).copied(),
        }
    }

    /// A number for the stack: with other layers an inode number means another object.
    pub(crate) fn generation(&self) -> u32 {
        self.digest.generation()
    }

    /// The rows that marks of earlier revisions name.
    pub(crate) fn earlier_rows(&self) -> impl Iterator<Item = Ino> {
        self.earlier.values().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_name_rows_by_their_own_numbers() {
        let plain = Origins::new(&[1; 32]);
        let mark = plain.origin(2);
        let foreign = Origins::new(&[2; 32]).origin(2);
        let earlier = HashMap::from([(mark.clone(), Some(7)), (foreign.clone(), None)]);
        let next = Origins::renumbered(StackDigest::new(&[2; 32]), vec![0, 9, 4], earlier);
        assert_eq!(next.row(&mark), Some(7), "of an earlier revision");
        assert_eq!(next.row(&foreign), None, "of no row before the switch");
        assert_eq!(
            next.origin(4),
            next.origin(5),
            "not the mark of another object"
        );
        assert_eq!(next.row(&next.origin(9)), Some(9));
        assert_eq!(Origins::new(&[2; 32]).row(&next.origin(9)), Some(1));
        assert_eq!(next.row(&plain.origin(3)), None);
        assert_eq!(
            next.origin(5),
            next.origin(6),
            "objects without a row of their own"
        );
        assert_eq!(next.row(&next.origin(5)), None);
    }
}
