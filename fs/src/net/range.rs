//! Byte ranges: request headers, answer headers, and merging of neighbors.

use std::ops::Range;

/// Unneeded bytes worth fetching to save a request: at 20 Mbit/s and 20 ms a round trip carries 50
/// KB, and a neighbor is often needed next.
pub(crate) const GAP_MAX: u64 = 16 << 10;

/// Maximum length of a merged range: the maximum wait of another demand.
pub(crate) const MERGED_LEN_MAX: u64 = 2 << 20;

/// `Range` header value for `range`.
pub(crate) fn header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

/// Reads `Content-Range: bytes FIRST-LAST/WHOLE`.
pub(crate) fn parse_content_range(value: &str) -> Option<Range<u64>> {
    let rest = value.trim().strip_prefix("bytes")?.trim_start();
    let (span, _whole) = rest.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let first: u64 = first.trim().parse().ok()?;
    let last: u64 = last.trim().parse().ok()?;
    if last < first {
        return None;
    }
    Some(first..last.checked_add(1)?)
}

/// The number of ranges of `sorted` (by start, of one object), from the first, that one range
/// request should cover.
pub(crate) fn mergeable(sorted: &[Range<u64>]) -> usize {
    let Some(first) = sorted.first() else {
        return 0;
    };
    let mut end = first.end;
    let mut count = 1;
    for next in sorted.iter().skip(1) {
        let gap_ok = next.start <= end.saturating_add(GAP_MAX);
        let whole = next.end.max(end).saturating_sub(first.start);
        if !gap_ok || whole > MERGED_LEN_MAX {
            break;
        }
        end = end.max(next.end);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_content_range() {
        assert_eq!(parse_content_range("bytes 0-9/100"), Some(0..10));
        assert_eq!(parse_content_range(" bytes  5-5/*"), Some(5..6));
        for bad in [
            "bytes */100",
            "bytes 9-0/100",
            "items 0-1/2",
            "bytes 0-1",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
        assert_eq!(header(&(0..10)), "bytes=0-9");
    }

    #[test]
    fn merges_neighbors_only() {
        assert_eq!(mergeable(&[]), 0);
        assert_eq!(mergeable(&[0..10, 10..20, 40..50]), 3);
        assert_eq!(mergeable(&[0..10, 20 + GAP_MAX..30 + GAP_MAX]), 1);
        assert_eq!(
            mergeable(&[0..MERGED_LEN_MAX, MERGED_LEN_MAX..MERGED_LEN_MAX + 1]),
            1
        );
        assert_eq!(mergeable(&[0..10, 0..10]), 2);
    }
}
