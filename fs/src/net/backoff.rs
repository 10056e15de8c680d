//! Pauses between attempts.

use std::time::Duration;

/// First wait, doubled with every failure.
const FIRST: Duration = Duration::from_millis(100);
/// Maximum pause: the return of a server is noticed within this time.
const LONGEST: Duration = Duration::from_secs(4);

/// The pause before attempt number `failures` (1 after the first failure). `random` (any value)
/// spreads it over half to the whole of the doubled time, so that clients that lost one server
/// together do not return together.
pub(crate) fn wait(failures: u32, random: u64) -> Duration {
    let whole = FIRST
        .saturating_mul(1u32 << failures.saturating_sub(1).min(10))
        .min(LONGEST);
    let half = whole / 2;
    let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(random % spread)
}

/// A cheap stream of different numbers, seeded by the process and the clock: for jitter only.
#[derive(Debug)]
pub(crate) struct Jitter(std::sync::atomic::AtomicU64);

impl Jitter {
    pub(crate) fn new() -> Self {
        let clock = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |time| time.subsec_nanos());
        Jitter(std::sync::atomic::AtomicU64::new(
            (u64::from(std::process::id()) << 32) ^ u64::from(clock),
        ))
    }

    pub(crate) fn next(&self) -> u64 {
        // SplitMix64: a Weyl sequence and a mixer.
        let weyl = 0x9e37_79b9_7f4a_7c15;
        let step = self
            .0
            .fetch_add(weyl, std::sync::atomic::Ordering::Relaxed)
            .wrapping_add(weyl);
        let mixed = (step ^ (step >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_stays_bounded_and_spreads() {
        let jitter = Jitter::new();
        for failures in 1..200 {
            let waited = wait(failures, jitter.next());
            assert!(
                waited >= FIRST / 2 && waited <= LONGEST,
                "{failures}: {waited:?}"
            );
        }
        assert!(wait(6, 0) > wait(1, u64::MAX));
        let different: std::collections::HashSet<_> =
            (0..100).map(|_| wait(7, jitter.next())).collect();
        assert!(different.len() > 90);
    }
}
