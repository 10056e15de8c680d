//! Data after an entry's headers: a file's data and its sparse map, a link's target.

use std::io::Read;

use layerfmt::limits::SYMLINK_LEN_MAX;

use wire::tar::header::{BLOCK_LEN, Block, Header};
use wire::tar::sparse::{self, LeadingMap};

use super::{Announced, Merged, Tar};
use crate::{EntryPath, Segments, SourceError};

impl<R: Read> Tar<R> {
    /// A regular file's size and map; leaves the stream at the first byte of its data.
    pub(super) fn file(
        &mut self,
        announced: &Announced,
        block: &Block,
        merged: &Merged,
    ) -> Result<(u64, Segments), SourceError> {
        let located = |error: SourceError| error.entry(&merged.path).at(merged.offset);
        let records = &announced.attributes.sparse;
        let old_gnu = block.get(156) == Some(&b'S');
        let mut stored_len = merged.stored_len;
        let (segments, size) = if old_gnu {
            let header = Header::parse(block).map_err(|e| located(self.error(e.to_string())))?;
            if !header.is_gnu() {
                return Err(located(
                    self.error("a sparse file of an unknown tar format"),
                ));
            }
            let size = header
                .sparse_size()
                .map_err(|e| located(self.error(e.to_string())))?;
            (
                self.old_gnu_segments(&header).map_err(located)?,
                records.size.unwrap_or(size),
            )
        } else if records.are_there() {
            let size = records.size.ok_or_else(|| {
                located(self.error("a sparse file without GNU.sparse.size or realsize"))
            })?;
            match (records.major.unwrap_or(0), records.minor.unwrap_or(0)) {
                (1, 0) => {
                    let (segments, map_len) = self.leading_map(stored_len).map_err(located)?;
                    stored_len -= map_len;
                    (segments, size)
                }
                (0, _) => {
                    let segments = sparse::record_segments(records);
                    (
                        segments.map_err(|problem| located(self.error(problem)))?,
                        size,
                    )
                }
                (major, minor) => {
                    let problem = format!("sparse format {major}.{minor} is unknown");
                    return Err(located(self.error(problem)));
                }
            }
        } else {
            self.stream.open(stored_len);
            return Ok((stored_len, vec![(0, stored_len)]));
        };
        let segments = sparse::checked(&segments, size, stored_len);
        let segments = segments.map_err(|problem| located(self.error(problem)))?;
        self.stream.open(stored_len);
        Ok((size, segments))
    }

    fn old_gnu_segments(&mut self, header: &Header<'_>) -> Result<Segments, SourceError> {
        let mut segments = Segments::new();
        sparse::gnu_segments(header.sparse_segments(), &mut segments).map_err(|p| self.error(p))?;
        let mut more = header.sparse_continues();
        while more {
            let block = self
                .stream
                .block()
                .map_err(|e| self.unreadable("a sparse map", e))?;
            more = sparse::gnu_extension(&block, &mut segments).map_err(|p| self.error(p))?;
        }
        Ok(segments)
    }

    /// Format 1.0's map, and the number of stored bytes it occupies.
    fn leading_map(&mut self, stored_len: u64) -> Result<(Segments, u64), SourceError> {
        let mut map = LeadingMap::default();
        let mut map_len = 0u64;
        for _ in 0..sparse::LEADING_BLOCKS_MAX {
            map_len += BLOCK_LEN as u64;
            if map_len > stored_len {
                return Err(self.error("the sparse map is longer than the entry"));
            }
            let block = self
                .stream
                .block()
                .map_err(|e| self.unreadable("a sparse map", e))?;
            if map.feed(&block).map_err(|problem| self.error(problem))? {
                return Ok((map.segments(), map_len));
            }
        }
        Err(self.error("the sparse map is too long"))
    }

    /// A hard link's target. In PAX a link may carry its file's bytes again; in old formats it does
    /// not, although its size field may be set: a following header decides.
    pub(super) fn hard_link(
        &mut self,
        announced: &Announced,
        merged: &Merged,
    ) -> Result<EntryPath, SourceError> {
        let target = EntryPath::parse(&merged.link_path).map_err(|problem| {
            let problem = format!("the link's target: {problem}");
            self.error(problem).entry(&merged.path).at(merged.offset)
        })?;
        if merged.stored_len > 0 {
            let next = self
                .stream
                .peek()
                .map_err(|e| self.unreadable("a header", e))?;
            let no_body = next.is_none_or(|block| {
                block.iter().all(|&byte| byte == 0) || Header::parse(&block).is_ok()
            });
            if announced.has_pax || !no_body {
                self.stream.open(merged.stored_len);
            }
        }
        Ok(target)
    }

    pub(super) fn symlink(&self, merged: &Merged) -> Result<Box<[u8]>, SourceError> {
        let target = &merged.link_path;
        if target.is_empty() || target.len() > SYMLINK_LEN_MAX || target.contains(&0) {
            let problem =
                format!("a link target has 1 to {SYMLINK_LEN_MAX} bytes, none of them NUL");
            return Err(self.error(problem).entry(&merged.path).at(merged.offset));
        }
        Ok(target.as_slice().into())
    }
}
