//! The content of one file of a tree.

use std::io::{self, Write};

use layerfmt::{ContentReader, Index, Ino, LayerSet};

/// Writes the content of a file, its holes as zeros.
///
/// # Errors
/// A chunk is missing or damaged, or `out` cannot be written.
pub(crate) fn write_content(
    index: &Index,
    layers: &LayerSet,
    ino: Ino,
    out: &mut dyn Write,
) -> io::Result<()> {
    let size = index.inode(ino).map_or(0, |inode| inode.size);
    let mut written = 0;
    ContentReader::new(index, layers).runs(ino, |offset, bytes| {
        write_zeros(out, offset.saturating_sub(written))?;
        out.write_all(bytes)?;
        written = offset + bytes.len() as u64;
        Ok(())
    })?;
    write_zeros(out, size.saturating_sub(written))
}

fn write_zeros(out: &mut dyn Write, len: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), len), out).map(drop)
}
