//! `Range` and the conditional headers as pure functions (RFC 9110 §13, §14).
//!
//! One range per request: several ranges in one header are ignored and the
//! whole object is the answer, which the RFC allows and every client must
//! understand; `POST /v1/batch` is the way to ask for many places at once.

use std::ops::Range;

/// The part of an object of known length that a `Range` header requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// No range, one we do not understand, or several: send everything.
    Whole,
    /// These bytes; never empty, never past the end.
    Part(Range<u64>),
    /// No requested byte exists: 416.
    Unsatisfiable,
}

/// Reads the value of a `Range` header against an object of `len` bytes.
pub(crate) fn select(header: Option<&[u8]>, len: u64) -> Selection {
    let Some(text) = header.and_then(|raw| std::str::from_utf8(raw).ok()) else {
        return Selection::Whole;
    };
    let Some((unit, spec)) = text.split_once('=') else {
        return Selection::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Selection::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Selection::Whole;
    };
    match (first.trim(), last.trim()) {
        ("", suffix) => number(suffix).map_or(Selection::Whole, |count| last_bytes(count, len)),
        (first, "") => number(first).map_or(Selection::Whole, |first| part(first, len, len)),
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => part(first, last.saturating_add(1), len),
            _ => Selection::Whole,
        },
    }
}

/// The parts of `places` that are these bytes of all of them, one after the other.
pub(crate) fn within(places: &[Range<u64>], range: &Range<u64>) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    let mut before = 0_u64;
    for place in places {
        let len = place.end - place.start;
        let from = range.start.max(before) - before;
        let to = range.end.min(before + len).saturating_sub(before);
        if from < to {
            parts.push(place.start + from..place.start + to);
        }
        before += len;
    }
    parts
}

/// Digits only: `u64::from_str` would also take a plus sign.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than fit mean "past any end".
    Some(digits.parse().unwrap_or(u64::MAX))
}

fn last_bytes(count: u64, len: u64) -> Selection {
    if count == 0 || len == 0 {
        return Selection::Unsatisfiable;
    }
    Selection::Part(len.saturating_sub(count)..len)
}

fn part(start: u64, end: u64, len: u64) -> Selection {
    if start >= len {
        return Selection::Unsatisfiable;
    }
    Selection::Part(start..end.min(len))
}

/// True if an `If-None-Match` value matches `etag` (weak comparison) or is `*`: the client has the
/// object, and the answer is 304.
pub(crate) fn none_match_hits(header: &[u8], etag: &str) -> bool {
    let Ok(text) = std::str::from_utf8(header) else {
        return false;
    };
    text.trim() == "*" || text.split(',').any(|one| strip_weak(one.trim()) == etag)
}

/// True if an `If-Range` value matches, so that `Range` may be used. A date never matches: our
/// objects have names but no times.
pub(crate) fn if_range_holds(header: Option<&[u8]>, etag: &str) -> bool {
    header.is_none_or(|raw| raw.trim_ascii() == etag.as_bytes())
}

fn strip_weak(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_places_is_that_of_their_bytes() {
        let places = [10..14, 20..21, 3..6];
        let bytes: Vec<u64> = places.iter().cloned().flatten().collect();
        for start in 0..=8 {
            for end in start..=8 {
                let found = within(&places, &(start..end));
                let found: Vec<u64> = found.into_iter().flatten().collect();
                assert_eq!(found, bytes[start as usize..end as usize], "{start}..{end}");
            }
        }
    }

    fn ask(header: &str, len: u64) -> Selection {
        select(Some(header.as_bytes()), len)
    }

    #[test]
    fn one_range_is_cut_at_the_end() {
        assert_eq!(ask("bytes=0-0", 10), Selection::Part(0..1));
        assert_eq!(ask("bytes=2-5", 10), Selection::Part(2..6));
        assert_eq!(ask("bytes=2-", 10), Selection::Part(2..10));
        assert_eq!(ask("bytes=9-9", 10), Selection::Part(9..10));
        assert_eq!(ask("bytes=5-1000", 10), Selection::Part(5..10));
        assert_eq!(ask("Bytes = 1 - 2 ", 10), Selection::Part(1..3));
        assert_eq!(
            ask("bytes=0-18446744073709551615", 10),
            Selection::Part(0..10)
        );
    }

    #[test]
    fn suffix_ranges_count_from_the_end() {
        assert_eq!(ask("bytes=-3", 10), Selection::Part(7..10));
        assert_eq!(ask("bytes=-10", 10), Selection::Part(0..10));
        assert_eq!(ask("bytes=-11", 10), Selection::Part(0..10));
        assert_eq!(
            ask("bytes=-99999999999999999999999", 10),
            Selection::Part(0..10)
        );
        assert_eq!(ask("bytes=-0", 10), Selection::Unsatisfiable);
    }

    #[test]
    fn what_does_not_exist_is_unsatisfiable() {
        assert_eq!(ask("bytes=10-", 10), Selection::Unsatisfiable);
        assert_eq!(ask("bytes=10-12", 10), Selection::Unsatisfiable);
        assert_eq!(ask("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(ask("bytes=-5", 0), Selection::Unsatisfiable);
        assert_eq!(
            ask("bytes=99999999999999999999999-", 10),
            Selection::Unsatisfiable
        );
    }

    #[test]
    fn what_is_not_a_range_is_ignored() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=5-2",
            "lines=0-1",
            "bytes=0-1,3-4",
            "bytes=1",
            "bytes=0x0-0x1",
            "bytes=--1",
        ] {
            assert_eq!(ask(text, 10), Selection::Whole, "{text:?}");
        }
        assert_eq!(select(Some(b"bytes=\xff-1"), 10), Selection::Whole);
        assert_eq!(select(None, 10), Selection::Whole);
    }

    #[test]
    fn no_range_ever_leaves_the_object() {
        for len in 0..6 {
            for first in 0..8 {
                for last in 0..8 {
                    match ask(&format!("bytes={first}-{last}"), len) {
                        Selection::Part(range) => {
                            assert!(range.start < range.end && range.end <= len);
                            assert_eq!(range.start, first);
                        }
                        Selection::Unsatisfiable => assert!(first >= len),
                        Selection::Whole => assert!(last < first),
                    }
                }
            }
        }
    }

    #[test]
    fn conditional_headers() {
        assert!(none_match_hits(b"\"a\"", "\"a\""));
        assert!(none_match_hits(b"\"b\", W/\"a\"", "\"a\""));
        assert!(none_match_hits(b" * ", "\"a\""));
        assert!(!none_match_hits(b"\"b\"", "\"a\""));
        assert!(!none_match_hits(b"a", "\"a\""));
        assert!(!none_match_hits(b"", "\"a\""));
        assert!(if_range_holds(None, "\"a\""));
        assert!(if_range_holds(Some(b"\"a\""), "\"a\""));
        assert!(!if_range_holds(Some(b"W/\"a\""), "\"a\""));
        assert!(!if_range_holds(
            Some(b"Tue, 15 Nov 1994 12:45:26 GMT"),
            "\"a\""
        ));
    }
}
