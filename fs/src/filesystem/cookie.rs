//! Cookies: positions in a listing. The place of a name in its directory depends only on the name
//! and the lower. So a cookie stays valid while names appear and disappear, after a copy-up, after
//! the daemon has forgotten the directory, and after a remount.
//!
//! Bits of a cookie, from the lowest: 28 of the place, 3 of the mark, 4 more of the place, 28 of
//! the rank. The first 31 suffice except where two names of the upper share a place, so that 32-bit
//! programs without large-file support can list too.

use std::sync::atomic::{AtomicU32, Ordering};

/// The place after `.`.
pub(super) const AFTER_DOT: u32 = 1;
/// The place after `..`; those of the lower's entries follow, then those of names that only the
/// upper has.
pub(super) const AFTER_DOT_DOT: u32 = 2;

/// Number of bits of a place below the mark.
const PLACE_BITS: u32 = 28;
/// Bits of the mark.
const MARK_BITS: u32 = 3;
/// Bits of a name's rank among those of its place.
const RANK_BITS: u32 = 27;
/// Names of the upper are spread over at least so many places.
const SPREAD_MIN: u32 = 1 << 20;

const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;
const MARK_MASK: u32 = (1 << MARK_BITS) - 1;
const RANK_MASK: u64 = (1 << RANK_BITS) - 1;
/// Position of the upper bits of a place.
const PLACE_REST: u32 = PLACE_BITS + MARK_BITS;
/// Position of the rank.
const RANK: u32 = PLACE_REST + 32 - PLACE_BITS;

/// The position of the next entry, and the time at which the listing began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cookie {
    /// The last place that was listed.
    pub(super) place: u32,
    /// If only a part of that place was listed: the rank of the last listed name there, plus one.
    pub(super) partly: u32,
    /// The mark of the [`ListingClock`].
    pub(super) mark: u32,
}

impl Cookie {
    /// After all of `place`.
    pub(super) fn after(place: u32, mark: u32) -> Cookie {
        Cookie {
            place,
            partly: 0,
            mark,
        }
    }

    /// From the kernel's number.
    pub(super) fn decode(number: u64) -> Cookie {
        let low = |n: u64| u32::try_from(n & u64::from(u32::MAX)).unwrap_or(0);
        let rest = (number >> PLACE_REST) & 0xf;
        Cookie {
            place: low((number & PLACE_MASK) | (rest << PLACE_BITS)),
            partly: low((number >> RANK) & (2 * RANK_MASK + 1)),
            mark: low(number >> PLACE_BITS) & MARK_MASK,
        }
    }

    /// The number for the kernel.
    pub(super) fn encode(self) -> u64 {
        let place = u64::from(self.place);
        (place & PLACE_MASK)
            | u64::from(self.mark & MARK_MASK) << PLACE_BITS
            | (place >> PLACE_BITS) << PLACE_REST
            | u64::from(self.partly) << RANK
    }

    /// The first [`Spot`] of the upper's names that is still to be listed.
    pub(super) fn next(self) -> Spot {
        let first = Spot::first(self.place);
        Spot(match self.partly {
            0 => first.0 + RANK_MASK + 1,
            seen => first.0 + u64::from(seen),
        })
    }
}

/// The position of a name that only the upper has among the others: its place, and its rank there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot(u64);

impl Spot {
    /// That of `name` in a directory of which the lower has `lower_count` entries.
    pub(crate) fn of(name: &[u8], lower_count: u32) -> Spot {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(name).as_bytes();
        let start = lower_count.saturating_add(AFTER_DOT_DOT + 1);
        let narrow = 1_u32 << PLACE_BITS;
        let places = match narrow.checked_sub(start) {
            Some(places) if places >= SPREAD_MIN => places,
            _ => u32::MAX - start,
        };
        let place = (u64::from(u32::from_le_bytes([a, b, c, d])) * u64::from(places)) >> 32;
        let rank = u64::from(u32::from_le_bytes([e, f, g, h])) & RANK_MASK;
        Spot(((u64::from(start) + place) << RANK_BITS) | rank)
    }

    /// The first spot of a place.
    fn first(place: u32) -> Spot {
        Spot(u64::from(place) << RANK_BITS)
    }

    /// The next spot, for a name whose own spot is taken.
    pub(crate) fn next(self) -> Spot {
        Spot(self.0 + 1)
    }

    /// The cookie of the name here; `following` is the spot of the next name.
    pub(super) fn cookie(self, mark: u32, following: Option<Spot>) -> Cookie {
        let place = self.place();
        let rank = u32::try_from(self.0 & RANK_MASK).unwrap_or(0);
        let is_last = following.is_none_or(|following| following.place() != place);
        Cookie {
            place,
            partly: if is_last { 0 } else { rank + 1 },
            mark,
        }
    }

    fn place(self) -> u32 {
        u32::try_from(self.0 >> RANK_BITS).unwrap_or(u32::MAX)
    }
}

/// Tells a listing which names are newer than itself, so that it skips them. The clock advances
/// when a listing begins and there are new names. A cookie contains the last bits of the time at
/// which its listing began, the mark. An old mark may be mistaken for a later one, never for an
/// earlier one: the listing then includes some of the new names, each once.
#[derive(Debug, Default)]
pub struct ListingClock {
    now: AtomicU32,
    last_birth: u32,
}

impl ListingClock {
    /// The time of a new name.
    pub(crate) fn birth(&mut self) -> u32 {
        self.last_birth = self.now.get_mut().saturating_add(1);
        self.last_birth
    }

    /// A listing begins; its mark.
    pub(super) fn begin(&self) -> u32 {
        let now = self.now.fetch_max(self.last_birth, Ordering::Relaxed);
        now.max(self.last_birth) & MARK_MASK
    }

    /// The time a listing with this mark began, or later.
    pub(super) fn began(&self, mark: u32) -> u32 {
        let now = self.now.load(Ordering::Relaxed);
        now.checked_sub(now.wrapping_sub(mark) & MARK_MASK)
            .unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_survive_the_kernel() {
        for place in [0, 1, 2, 3, (1 << 28) - 1, 1 << 28, u32::MAX] {
            for partly in [0, 1, 1 << 27] {
                for mark in 0..=MARK_MASK {
                    let cookie = Cookie {
                        place,
                        partly,
                        mark,
                    };
                    assert_eq!(Cookie::decode(cookie.encode()), cookie);
                    assert!(i64::try_from(cookie.encode()).is_ok(), "loff_t");
                    let narrow = place < 1 << 28 && partly == 0;
                    assert_eq!(i32::try_from(cookie.encode()).is_ok(), narrow, "{cookie:?}");
                }
            }
        }
        assert_eq!(Cookie::after(7, 0).encode(), 7, "lower directories");
    }

    #[test]
    fn names_of_one_place_are_told_apart() {
        let (one, two, other) = (Spot((5 << 27) | 3), Spot((5 << 27) | 9), Spot(6 << 27));
        assert_eq!(one.cookie(1, Some(two)).next(), Spot((5 << 27) | 4));
        assert_eq!(two.cookie(1, Some(other)).next(), other);
        assert_eq!(two.cookie(1, None), Cookie::after(5, 1));
        let last = Spot((5 << 27) | RANK_MASK);
        assert_eq!(two.cookie(0, Some(last)).next(), Spot((5 << 27) | 10));
        assert_eq!(last.cookie(0, Some(last.next())).next(), other);
    }

    #[test]
    fn spots_are_above_the_lower_and_narrow_while_they_can() {
        for count in [0, 1, 100_000, (1 << 28) - (1 << 21), 1 << 28, u32::MAX - 5] {
            for name in 0..1000_u32 {
                let spot = Spot::of(&name.to_le_bytes(), count);
                assert!(spot.place() > count.saturating_add(AFTER_DOT_DOT).min(u32::MAX - 1));
                if count < (1 << 28) - (1 << 20) - 3 {
                    assert!(spot.place() < 1 << 28);
                }
            }
        }
        assert_eq!(Spot::of(b"a", 9), Spot::of(b"a", 9));
    }

    #[test]
    fn who_began_before_a_birth_does_not_see_it_and_who_began_later_does() {
        let mut clock = ListingClock::default();
        let mut readers = vec![(clock.begin(), 0)];
        for round in 1..40 {
            let born = clock.birth();
            assert_eq!(clock.birth(), born, "nobody began between them");
            for (age, (mark, began)) in readers.iter().rev().enumerate() {
                let taken_for = clock.began(*mark);
                assert!(taken_for >= *began, "taken for an earlier one");
                assert!(taken_for < born);
                assert!(age >= 8 || taken_for == *began, "{age}");
            }
            let mark = clock.begin();
            assert!(clock.began(mark) >= born);
            readers.push((mark, round));
        }
        assert!(
            ListingClock::default().began(5) == 0,
            "a mark of before a remount"
        );
    }
}
