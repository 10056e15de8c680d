//! The batch request: many ranges of one layer or pack in one answer.
//!
//! The body of the request is a list of records, offset (`u64`) and length (`u32`), little-endian.
//! The answer has the bytes of the ranges, concatenated in the requested order. The client verifies
//! each chunk on its own, so the framing carries no trust. `docs/HTTP.md` is the specification.

use std::ops::Range;

use crate::limits::{BATCH_LEN_MAX, BATCH_RANGES_MAX};

/// Bytes of one record.
const RECORD_LEN: usize = 12;

/// Longest body of a request, bytes.
pub const BODY_LEN_MAX: usize = BATCH_RANGES_MAX * RECORD_LEN;

/// Errors of a batch request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The body is not a whole number of records.
    #[error(
        "a batch is a list of {RECORD_LEN}-byte records (offset u64, length u32, little-endian); {0} bytes are not"
    )]
    Torn(usize),
    /// The batch asks for too much at once.
    #[error(
        "a batch may request {BATCH_RANGES_MAX} ranges and {BATCH_LEN_MAX} bytes; request less at once"
    )]
    TooMuch,
    /// A range is outside the object, or ends before it begins.
    #[error("range {offset}+{len} is outside the layer of {object_len} bytes")]
    Outside {
        /// The requested offset.
        offset: u64,
        /// The requested length.
        len: u64,
        /// The length of the object.
        object_len: u64,
    },
}

/// Writes the body of a request for `ranges`.
///
/// # Errors
/// A server would refuse the request: too many ranges or bytes, or a range that no object has.
pub fn encode(ranges: impl IntoIterator<Item = Range<u64>>) -> Result<Vec<u8>, BatchError> {
    let ranges = ranges.into_iter();
    let count = ranges.size_hint().0.min(BATCH_RANGES_MAX);
    let mut body = Vec::with_capacity(count * RECORD_LEN);
    let mut total = Total::default();
    for range in ranges {
        let outside = BatchError::Outside {
            offset: range.start,
            len: range.end.saturating_sub(range.start),
            object_len: u64::MAX,
        };
        let len = range.end.checked_sub(range.start).ok_or(outside)?;
        total.add(len)?;
        let len = u32::try_from(len).map_err(|_| BatchError::TooMuch)?;
        body.extend_from_slice(&range.start.to_le_bytes());
        body.extend_from_slice(&len.to_le_bytes());
    }
    Ok(body)
}

/// Reads the body of a request for ranges of an object of `object_len` bytes.
///
/// # Errors
/// The body is damaged, asks for too much, or asks for bytes that the object does not have.
pub fn decode(body: &[u8], object_len: u64) -> Result<Vec<Range<u64>>, BatchError> {
    let (records, rest) = body.as_chunks::<RECORD_LEN>();
    if !rest.is_empty() {
        return Err(BatchError::Torn(body.len()));
    }
    if records.len() > BATCH_RANGES_MAX {
        return Err(BatchError::TooMuch);
    }
    let mut ranges = Vec::with_capacity(records.len());
    let mut total = Total::default();
    for &[o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] in records {
        let offset = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        let len = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
        let end = offset.checked_add(len).filter(|end| *end <= object_len);
        let end = end.ok_or(BatchError::Outside {
            offset,
            len,
            object_len,
        })?;
        total.add(len)?;
        ranges.push(offset..end);
    }
    Ok(ranges)
}

/// Ranges and bytes so far.
#[derive(Default)]
struct Total {
    ranges: usize,
    len: u64,
}

impl Total {
    fn add(&mut self, len: u64) -> Result<(), BatchError> {
        self.ranges += 1;
        self.len = self.len.saturating_add(len);
        if self.ranges > BATCH_RANGES_MAX || self.len > BATCH_LEN_MAX {
            return Err(BatchError::TooMuch);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(records: &[(u64, u32)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (offset, len) in records {
            body.extend(offset.to_le_bytes());
            body.extend(len.to_le_bytes());
        }
        body
    }

    #[test]
    fn ranges_come_in_the_order_asked() {
        let asked = body(&[(5, 3), (0, 0), (0, 10)]);
        assert_eq!(decode(&asked, 10), Ok(vec![5..8, 0..0, 0..10]));
        assert_eq!(encode([5..8, 0..0, 0..10]), Ok(asked));
        assert_eq!(decode(&[], 10), Ok(vec![]));
    }

    #[test]
    fn what_is_outside_or_too_much_is_refused() {
        let outside = |offset, len| {
            Err(BatchError::Outside {
                offset,
                len,
                object_len: 10,
            })
        };
        assert_eq!(decode(&body(&[(5, 6)]), 10), outside(5, 6));
        assert_eq!(decode(&body(&[(11, 0)]), 10), outside(11, 0));
        assert_eq!(decode(&body(&[(u64::MAX, 1)]), 10), outside(u64::MAX, 1));
        assert_eq!(decode(&[0; 13], 10), Err(BatchError::Torn(13)));
        let many = vec![(0, 1); BATCH_RANGES_MAX + 1];
        assert_eq!(decode(&body(&many), 10), Err(BatchError::TooMuch));
        assert_eq!(encode(many.iter().map(|_| 0..1)), Err(BatchError::TooMuch));
        let large = u32::try_from(BATCH_LEN_MAX).unwrap();
        let asked = body(&[(0, large), (0, 1)]);
        assert_eq!(decode(&asked, 1 << 40), Err(BatchError::TooMuch));
        assert_eq!(encode([0..BATCH_LEN_MAX, 0..1]), Err(BatchError::TooMuch));
        #[expect(clippy::reversed_empty_ranges, reason = "the refused input")]
        let backwards = encode(std::iter::once(5..3));
        assert!(matches!(backwards, Err(BatchError::Outside { .. })));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            ranges in prop::collection::vec((0..=u64::MAX - 0xffff, 0_u64..=0xffff), 0..100)
        ) {
            let ranges: Vec<_> = ranges.iter().map(|(start, len)| *start..start + len).collect();
            let body = encode(ranges.clone()).unwrap();
            prop_assert!(body.len() <= BODY_LEN_MAX);
            prop_assert_eq!(decode(&body, u64::MAX), Ok(ranges));
        }
    }
}
