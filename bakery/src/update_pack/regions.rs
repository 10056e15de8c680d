//! Reads files of both ends, and finds their compressed data.

use std::collections::HashMap;
use std::io::Read as _;

use layerfmt::Ino;
use layerfmt::source::ContentReader;

use super::Result;
use super::compressed::{MAGIC_LEN, Region, may_have_regions, regions};
use super::sources::End;
use super::units::{OldRegion, clipped};

/// Longest file that is searched for compressed data, bytes.
const FILE_LEN_MAX: u64 = 64 << 20;

/// Finds compressed data in files.
pub(super) struct Finder<'e> {
    old: &'e End,
    old_reader: ContentReader<'e>,
    new_reader: ContentReader<'e>,
    new: &'e End,
    known: HashMap<Ino, Vec<OldRegion>>,
}

impl<'e> Finder<'e> {
    pub(super) fn new(old: &'e End, new: &'e End) -> Finder<'e> {
        Finder {
            old,
            old_reader: old.reader(),
            new_reader: new.reader(),
            new,
            known: HashMap::new(),
        }
    }

    /// The compressed data of a new file.
    pub(super) fn new_regions(&mut self, ino: Ino) -> Result<Vec<Region>> {
        let size = self.new.index.inode(ino).map_or(0, |inode| inode.size);
        found(&mut self.new_reader, ino, size)
    }

    /// The compressed data of an old file.
    pub(super) fn old_regions(&mut self, ino: Ino) -> Result<Vec<OldRegion>> {
        if let Some(known) = self.known.get(&ino) {
            return Ok(known.clone());
        }
        let index = &self.old.index;
        let size = index.inode(ino).map_or(0, |inode| inode.size);
        let regions = found(&mut self.old_reader, ino, size)?;
        let regions = regions.into_iter().map(|region| {
            let spans = clipped(index, ino, &region.place);
            OldRegion {
                packed_len: spans.iter().map(|span| span.len).sum(),
                raw_len: region.raw_len,
                recipe: region.recipe,
                spans,
            }
        });
        let regions: Vec<OldRegion> = regions.collect();
        self.known.insert(ino, regions.clone());
        Ok(regions)
    }
}

fn found(reader: &mut ContentReader<'_>, ino: Ino, size: u64) -> Result<Vec<Region>> {
    if size > FILE_LEN_MAX {
        return Ok(Vec::new());
    }
    let mut stream = reader.stream(ino);
    let mut file = Vec::new();
    stream
        .by_ref()
        .take(MAGIC_LEN as u64)
        .read_to_end(&mut file)?;
    if !may_have_regions(&file) {
        return Ok(Vec::new());
    }
    stream.read_to_end(&mut file)?;
    Ok(regions(&file))
}
