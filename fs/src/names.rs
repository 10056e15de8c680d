//! The names of each row: the inverse of the directory tables. Writes need it, because the kernel
//! uses numbers and a copy-up needs the directory and the name; messages with paths need it too.

use std::collections::HashMap;

use layerfmt::{DirentTarget, Index, Ino, ROOT};

/// A place in a lower directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Inode number of the directory.
    pub dir: Ino,
    /// The entry's position in it.
    pub position: u32,
}

/// The first name of every row, and the others of hard links.
#[derive(Debug)]
pub struct Names {
    first: Vec<Place>,
    more: HashMap<Ino, Vec<Place>>,
}

impl Names {
    /// Reads all directory entries once.
    pub fn new(index: &Index) -> Names {
        let unnamed = Place {
            dir: u32::MAX,
            position: 0,
        };
        let mut first = vec![unnamed; index.inode_count() as usize];
        let mut more: HashMap<Ino, Vec<Place>> = HashMap::new();
        for dir in 0..index.inode_count() {
            for entry in index.entries(dir, 0) {
                let DirentTarget::Inode(row) = entry.child else {
                    continue;
                };
                let place = Place {
                    dir,
                    position: entry.position,
                };
                match first.get_mut(row as usize) {
                    Some(slot) if *slot == unnamed => *slot = place,
                    _ => more.entry(row).or_default().push(place),
                }
            }
        }
        Names { first, more }
    }

    /// All places of `row`; none for the root.
    pub fn places(&self, row: Ino) -> impl Iterator<Item = Place> + '_ {
        let first = self
            .first
            .get(row as usize)
            .copied()
            .filter(|place| place.dir != u32::MAX);
        let more = self.more.get(&row).map(Vec::as_slice).unwrap_or_default();
        first.into_iter().chain(more.iter().copied())
    }

    /// The name at `place`.
    pub fn name(index: &Index, place: Place) -> &[u8] {
        index
            .entries(place.dir, place.position)
            .next()
            .map(|entry| entry.name)
            .unwrap_or_default()
    }

    /// The absolute path of `row` in the lower, by its first name, for redirects.
    pub fn path(&self, index: &Index, row: Ino) -> Vec<u8> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut at = row;
        while at != ROOT {
            let Some(place) = self.places(at).next() else {
                break;
            };
            parts.push(Names::name(index, place));
            at = place.dir;
        }
        let mut path = Vec::new();
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }
}
