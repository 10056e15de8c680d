//! Cutting a body into the chunks it carries.

use std::ops::Range;

use super::queue::Taken;

/// The chunks that one body brings, each at its place in the body's own positions.
#[derive(Debug)]
pub(crate) struct Cutter {
    cuts: Vec<Cut>,
    position: u64,
    end: u64,
}

#[derive(Debug)]
struct Cut {
    at: Range<u64>,
    taken: Option<Taken>,
}

impl Cutter {
    /// For the answer to one range request: positions are those in the object.
    pub(crate) fn for_range(ranges: Vec<Taken>) -> Cutter {
        let cuts: Vec<Cut> = ranges
            .into_iter()
            .map(|taken| Cut {
                at: taken.missing(),
                taken: Some(taken),
            })
            .collect();
        let position = cuts.iter().map(|cut| cut.at.start).min().unwrap_or(0);
        let end = cuts.iter().map(|cut| cut.at.end).max().unwrap_or(0);
        Cutter {
            cuts,
            position,
            end,
        }
    }

    /// For the answer to a batch request: the chunks follow each other.
    pub(crate) fn for_batch(ranges: Vec<Taken>) -> Cutter {
        let mut end = 0u64;
        let cuts = ranges
            .into_iter()
            .map(|taken| {
                let missing = taken.missing();
                let start = end;
                end += missing.end.saturating_sub(missing.start);
                Cut {
                    at: start..end,
                    taken: Some(taken),
                }
            })
            .collect();
        Cutter {
            cuts,
            position: 0,
            end,
        }
    }

    /// The range that the body covers.
    pub(crate) fn span(&self) -> Range<u64> {
        self.position..self.end
    }

    /// True once every requested byte has arrived.
    pub(crate) fn is_done(&self) -> bool {
        self.position >= self.end
    }

    /// Takes the next bytes of the body; returns the completed chunks.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Taken> {
        let start = self.position;
        let end = start.saturating_add(bytes.len() as u64);
        self.position = end;
        let mut complete = Vec::new();
        for cut in &mut self.cuts {
            let Some(taken) = cut.taken.as_mut() else {
                continue;
            };
            let from = cut.at.start.max(start);
            let to = cut.at.end.min(end);
            if from < to {
                let from = usize::try_from(from - start).unwrap_or(usize::MAX);
                let to = usize::try_from(to - start).unwrap_or(usize::MAX);
                taken
                    .partial
                    .extend_from_slice(bytes.get(from..to).unwrap_or_default());
            }
            if cut.at.end <= end {
                complete.extend(cut.taken.take());
            }
        }
        complete
    }

    /// The chunks that are not complete.
    pub(crate) fn rest(self) -> Vec<Taken> {
        self.cuts.into_iter().filter_map(|cut| cut.taken).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use layerfmt::Digest;

    use super::super::object::{ChunkRange, Object};
    use super::*;

    fn taken(offset: u64, len: u32, partial: &[u8]) -> Taken {
        let object = Arc::new(Object {
            path: String::new(),
            batch_path: String::new(),
            optional: false,
        });
        let range = ChunkRange {
            object,
            offset,
            len,
            digest: Digest::of(&offset.to_le_bytes()),
        };
        Taken {
            range,
            partial: partial.to_vec(),
        }
    }

    #[test]
    fn cuts_a_range_with_gaps_overlaps_and_partial_pieces_at_every_split() {
        let body: Vec<u8> = (10..60).collect();
        for split in 1..body.len() {
            let mut cutter = Cutter::for_range(vec![
                taken(12, 10, &[12, 13]),
                taken(20, 5, &[]),
                taken(40, 20, &[]),
            ]);
            assert_eq!(cutter.span(), 14..60);
            let body = &body[4..];
            let mut done = Vec::new();
            for part in body.chunks(split) {
                done.extend(cutter.feed(part));
            }
            assert!(cutter.is_done() && cutter.rest().is_empty());
            done.sort_by_key(|taken| taken.range.offset);
            let contents: Vec<Vec<u8>> = done.into_iter().map(|taken| taken.partial).collect();
            assert_eq!(
                contents,
                [
                    (12..22).collect::<Vec<u8>>(),
                    (20..25).collect(),
                    (40..60).collect()
                ]
            );
        }
    }

    #[test]
    fn cuts_a_batch_and_keeps_what_is_left() {
        let mut cutter = Cutter::for_batch(vec![
            taken(900, 3, &[]),
            taken(5, 2, &[9]),
            taken(70, 4, &[]),
        ]);
        assert_eq!(cutter.span(), 0..8);
        let done = cutter.feed(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(
            done.iter().map(|t| t.partial.clone()).collect::<Vec<_>>(),
            [vec![1, 2, 3], vec![9, 4]]
        );
        assert!(!cutter.is_done());
        let rest = cutter.rest();
        assert_eq!(
            (rest.len(), rest[0].partial.clone(), rest[0].missing()),
            (1, vec![5, 6], 72..74)
        );
    }
}
