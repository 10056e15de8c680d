//! A token bucket for prefetch.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets `rate` bytes pass in each second, with bursts of a quarter of a second.
#[derive(Debug)]
pub(crate) struct Limiter {
    rate: Option<u64>,
    /// The time at which all bytes that have passed are within the rate.
    paid: Mutex<Instant>,
}

const BURST: Duration = Duration::from_millis(250);

impl Limiter {
    /// `None` means no limit.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Limiter {
            rate: rate.filter(|rate| *rate > 0),
            paid: Mutex::new(Instant::now()),
        }
    }

    /// The time to wait after `len` bytes were taken at `now`.
    fn owed(&self, len: u64, now: Instant) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let cost = Duration::from_micros(len.saturating_mul(1_000_000) / rate);
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        *paid = (*paid).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
        paid.saturating_duration_since(now)
    }

    /// Waits until `len` bytes are within the rate.
    pub(crate) async fn pay(&self, len: u64) {
        let owed = self.owed(len, Instant::now());
        if !owed.is_zero() {
            tokio::time::sleep(owed).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_the_rate_through_and_no_more() {
        let limiter = Limiter::new(Some(1000));
        let start = Instant::now() + Duration::from_secs(10);
        assert_eq!(limiter.owed(250, start), Duration::ZERO);
        assert_eq!(limiter.owed(1000, start), Duration::from_secs(1));
        assert_eq!(
            limiter.owed(500, start + Duration::from_secs(1)),
            Duration::from_millis(500)
        );
        assert_eq!(Limiter::new(None).owed(u64::MAX, start), Duration::ZERO);
    }
}
