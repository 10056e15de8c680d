//! `POST /v1/batch/<layer>`: many ranges of one layer in one answer.
//!
//! The body is a list of 12-byte records, offset (u64) and length (u32), little-endian; the answer
//! is the ranges' bytes, concatenated in the requested order. The client verifies every chunk
//! separately, so the framing needs no trust.

use std::ops::Range;

use super::limits;

/// Bytes of one range in a batch request.
pub(crate) const RECORD_LEN: usize = 12;

/// The reason why a batch is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchError {
    /// The body is not a whole number of records.
    #[error(
        "a batch is a list of 12-byte records (offset u64, length u32, little endian); {0} bytes are not"
    )]
    Torn(usize),
    /// Too many ranges or bytes in one request.
    #[error("a batch may request {ranges_max} ranges and {len_max} bytes; request less at once", ranges_max = limits::BATCH_RANGES_MAX, len_max = limits::BATCH_LEN_MAX)]
    TooMuch,
    /// A range is outside the layer.
    #[error("range {offset}+{len} is outside the layer of {object_len} bytes")]
    Outside {
        /// The requested offset.
        offset: u64,
        /// The requested length.
        len: u32,
        /// The layer's length.
        object_len: u64,
    },
}

/// Reads a batch request against a layer of `object_len` bytes.
pub(crate) fn parse(body: &[u8], object_len: u64) -> Result<Vec<Range<u64>>, BatchError> {
    let (records, rest) = body.as_chunks::<RECORD_LEN>();
    if !rest.is_empty() {
        return Err(BatchError::Torn(body.len()));
    }
    if records.len() > limits::BATCH_RANGES_MAX {
        return Err(BatchError::TooMuch);
    }
    let mut ranges = Vec::with_capacity(records.len());
    let mut total = 0_u64;
    for &[o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] in records {
        let offset = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let end = offset
            .checked_add(u64::from(len))
            .filter(|end| *end <= object_len);
        let end = end.ok_or(BatchError::Outside {
            offset,
            len,
            object_len,
        })?;
        total += u64::from(len);
        ranges.push(offset..end);
    }
    if total > limits::BATCH_LEN_MAX {
        return Err(BatchError::TooMuch);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(parse(&asked, 10), Ok(vec![5..8, 0..0, 0..10]));
        assert_eq!(parse(&[], 10), Ok(vec![]));
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
        assert_eq!(parse(&body(&[(5, 6)]), 10), outside(5, 6));
        assert_eq!(parse(&body(&[(11, 0)]), 10), outside(11, 0));
        assert_eq!(parse(&body(&[(u64::MAX, 1)]), 10), outside(u64::MAX, 1));
        assert_eq!(parse(&[0; 13], 10), Err(BatchError::Torn(13)));
        let many = vec![(0, 1); limits::BATCH_RANGES_MAX + 1];
        assert_eq!(parse(&body(&many), 10), Err(BatchError::TooMuch));
        let large = u32::try_from(limits::BATCH_LEN_MAX).unwrap();
        assert_eq!(
            parse(&body(&[(0, large), (0, 1)]), 1 << 40),
            Err(BatchError::TooMuch)
        );
    }
}
