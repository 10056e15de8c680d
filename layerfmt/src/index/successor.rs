//! The index of the next revision under the row numbers of the one in use: a running mount exchanges
//! the one for the other, and what is the same in both keeps its number.
//!
//! Directories keep their row if both revisions have one at the same path. Any other object keeps
//! its row if attributes, content and set of names are equal. Objects that only the older revision
//! has keep their row too, without a name, because they may be open.

mod assembly;
mod compare;

use self::assembly::Assembly;
use self::compare::Comparison;
use super::{Index, Ino};
use crate::error::{FormatError, Result};

/// No row.
const NONE: u32 = u32::MAX;

/// The next revision under the row numbers of the current one.
#[derive(Debug)]
pub struct Successor {
    /// The tables. Rows without a name are objects of earlier revisions, or unused.
    pub index: Index,
    /// The row here of each row of the next revision's own index.
    pub rows: Vec<Ino>,
    /// Every name whose object differs.
    pub changes: Vec<NameChange>,
    /// Directories of both revisions whose owner, permissions, attributes or time differ.
    pub restyled: Vec<Restyled>,
    /// Rows that the current index does not use, and this one does.
    pub added: Vec<Ino>,
    /// Rows of the current revision that have no name any more.
    pub dropped: Vec<Ino>,
}

/// A name whose object differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameChange {
    /// The row of the directory.
    pub dir: Ino,
    /// The name in it.
    pub name: Box<[u8]>,
    /// The object in the current revision.
    pub before: Option<Ino>,
    /// The object in the next revision.
    pub after: Option<Ino>,
}

/// A directory of both revisions with other attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restyled {
    /// Its row.
    pub dir: Ino,
    /// True if more than the modification time differs.
    pub beyond_time: bool,
}

impl Index {
    /// `next` under the row numbers of this index. Rows without a name are kept while `in_use`, and
    /// no row number reaches `rows_max`.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Limit`]: both revisions together have too many objects.
    pub fn succeed(
        &self,
        next: &Index,
        in_use: impl Fn(Ino) -> bool,
        rows_max: u32,
    ) -> Result<Successor> {
        let compared = Comparison::of(self, next);
        let kept: Vec<bool> = (0..self.inode_count())
            .map(|row| compared.is_named(row) || in_use(row))
            .collect();
        let free = kept.iter().enumerate().filter(|(_, kept)| !**kept);
        let free = free.map(|(row, _)| row as u32);
        let mut free = free.chain(self.inode_count()..rows_max);
        let mut added = Vec::new();
        let mut rows = Vec::with_capacity(next.inode_count() as usize);
        for row in 0..next.inode_count() {
            let place = match compared.same(row) {
                Some(same) => same,
                None => {
                    let place = free.next().ok_or_else(too_many)?;
                    added.push(place);
                    place
                }
            };
            rows.push(place);
        }
        let count = rows.iter().max().map_or(0, |row| row + 1);
        let last_kept = kept.iter().rposition(|kept| *kept);
        let count = count.max(last_kept.map_or(0, |row| row as u32 + 1));
        let mut assembly = Assembly::new(self, next, &rows);
        let mut sources = vec![assembly::Source::Unused; count as usize];
        for (row, kept) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
            debug_assert!(kept);
            put(
                &mut sources,
                row as u32,
                assembly::Source::Current(row as u32),
            );
        }
        for (row, place) in rows.iter().enumerate() {
            put(&mut sources, *place, assembly::Source::Next(row as u32));
        }
        let is_dropped = |row: &u32| {
            compared.is_named(*row)
                && matches!(
                    sources.get(*row as usize),
                    Some(assembly::Source::Current(_))
                )
        };
        let dropped = (0..self.inode_count()).filter(is_dropped).collect();
        for source in &sources {
            assembly.inode(*source);
        }
        let (changes, restyled) = compared.finish(&rows);
        Ok(Successor {
            index: assembly.finish(),
            rows,
            changes,
            restyled,
            added,
            dropped,
        })
    }
}

/// A row that only an object of the upper needs: the type of that object, and no content.
pub type StubRow = (Ino, u32);

impl Index {
    /// This index with other row numbers: row `row` becomes `rows[row]`, none twice. The chunks keep
    /// theirs. Of the other rows, `stubs` have a type, and the rest is unused.
    pub fn renumbered(&self, rows: &[Ino], stubs: &[StubRow]) -> Index {
        let numbers = rows.iter().chain(stubs.iter().map(|(row, _)| row));
        let count = numbers.max().map_or(0, |row| *row as usize + 1);
        let mut sources = vec![assembly::Source::Unused; count];
        for (row, kind) in stubs {
            put(&mut sources, *row, assembly::Source::Stub(*kind));
        }
        for (row, place) in (0..self.inode_count()).zip(rows) {
            put(&mut sources, *place, assembly::Source::Next(row));
        }
        let mut assembly = Assembly::new(self, self, rows);
        for source in &sources {
            assembly.inode(*source);
        }
        assembly.finish()
    }
}

fn put(sources: &mut [assembly::Source], row: u32, source: assembly::Source) {
    if let Some(slot) = sources.get_mut(row as usize) {
        *slot = source;
    }
}

#[cold]
fn too_many() -> FormatError {
    FormatError::limit(
        "INDEX",
        0,
        "both revisions together have too many objects for the numbers of this mount",
    )
}
