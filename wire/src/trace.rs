//! Boot traces: the pages of a revision's files in the order of first access.
//!
//! A mount records one, `layerfs push-trace` sends it, `bakery pack` merges those of many boots.
//! Anybody on the network can send one, so a trace can make a boot pack better or worse, but never
//! wrong.
//!
//! Grammar, all little-endian: magic (8 bytes) · tree digest (32) · count u32 · count × (inode u32,
//! first page u32, pages u32). Pages have [`PAGE_LEN`] bytes; inodes are rows of the merged index
//! of any revision with this tree digest (rows are canonical, so recompression or a pack does not
//! move them).

use layerfmt::{Digest, Ino};

/// First bytes of a trace.
pub const MAGIC: [u8; 8] = *b"LFTRACE1";
/// Unit of a trace, bytes.
pub const PAGE_LEN: u64 = 4096;
/// Most records of one trace. A desktop boot has 12,000.
pub const RECORDS_MAX: usize = 1 << 18;
/// Largest trace, bytes.
pub const TRACE_LEN_MAX: usize = HEAD_LEN + RECORDS_MAX * RECORD_LEN;

const HEAD_LEN: usize = 44;
const RECORD_LEN: usize = 12;

/// Consecutive pages of one file that were touched one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Touch {
    /// The inode number of the file.
    pub ino: Ino,
    /// The first page.
    pub page: u32,
    /// The number of pages.
    pub count: u32,
}

/// The pages that one boot read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootTrace {
    /// Digest of the tree that was booted.
    pub tree: Digest,
    /// In the order of the first touch.
    pub touches: Vec<Touch>,
}

/// The reason why bytes are not a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceError(&'static str);

impl std::fmt::Display for TraceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a boot trace: {}", self.0)
    }
}

impl std::error::Error for TraceError {}

impl BootTrace {
    /// Encodes the trace for sending and storing.
    pub fn encode(&self) -> Vec<u8> {
        let touches = self.touches.get(..RECORDS_MAX).unwrap_or(&self.touches);
        let mut out = Vec::with_capacity(HEAD_LEN + touches.len() * RECORD_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.tree.0);
        out.extend_from_slice(&u32::try_from(touches.len()).unwrap_or(0).to_le_bytes());
        for touch in touches {
            for word in [touch.ino, touch.page, touch.count] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        out
    }

    /// Reads a trace. The caller checks its numbers against an index.
    ///
    /// # Errors
    /// The bytes are not exactly one trace.
    pub fn decode(bytes: &[u8]) -> Result<BootTrace, TraceError> {
        let (head, rest) = bytes
            .split_at_checked(HEAD_LEN)
            .ok_or(TraceError("too short"))?;
        let tree = match (
            head.get(..8),
            head.get(8..40).and_then(|tree| tree.try_into().ok()),
        ) {
            (Some(magic), Some(tree)) if magic == MAGIC => Digest(tree),
            _ => return Err(TraceError("no magic")),
        };
        let count = head
            .get(40..)
            .and_then(|word| word.try_into().ok())
            .map_or(0, u32::from_le_bytes);
        if count as usize > RECORDS_MAX {
            return Err(TraceError("too many records"));
        }
        if rest.len() != count as usize * RECORD_LEN {
            return Err(TraceError("its length is not that of its records"));
        }
        let mut words = rest
            .chunks_exact(4)
            .map(|word| word.try_into().map_or(0, u32::from_le_bytes));
        let mut touches = Vec::with_capacity(count as usize);
        while let (Some(ino), Some(page), Some(count)) = (words.next(), words.next(), words.next())
        {
            if count == 0 || page.checked_add(count).is_none() {
                return Err(TraceError("a record of no pages"));
            }
            touches.push(Touch { ino, page, count });
        }
        Ok(BootTrace { tree, touches })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_every_cut() {
        let trace = BootTrace {
            tree: Digest::of(b"tree"),
            touches: vec![
                Touch {
                    ino: 7,
                    page: 0,
                    count: 3,
                },
                Touch {
                    ino: 9,
                    page: 11,
                    count: 1,
                },
            ],
        };
        let bytes = trace.encode();
        assert_eq!(BootTrace::decode(&bytes), Ok(trace));
        for len in 0..bytes.len() {
            assert!(BootTrace::decode(&bytes[..len]).is_err(), "{len}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(BootTrace::decode(&longer).is_err());
    }

    #[test]
    fn refuses_claims_it_cannot_back() {
        let mut bytes = BootTrace::default().encode();
        bytes[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(BootTrace::decode(&bytes).is_err());
        let endless = BootTrace {
            tree: Digest::default(),
            touches: vec![Touch {
                ino: 1,
                page: u32::MAX,
                count: 2,
            }],
        };
        assert!(BootTrace::decode(&endless.encode()).is_err());
    }
}
