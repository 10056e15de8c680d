//! The rate limit of each address.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Largest number of addresses in the table. A full table first drops the addresses whose allowance
/// is full again. If there are none, it refuses a new address.
const ADDRESSES_MAX: usize = 16_384;

/// A token bucket for each address: `burst` requests at once, `per_second` more each second.
#[derive(Debug)]
pub(crate) struct Limit {
    burst: f64,
    per_second: f64,
    addresses: Mutex<HashMap<String, Allowance>>,
}

#[derive(Debug, Clone, Copy)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Limit {
    /// Creates the limit: `burst` requests at once, refilled at `per_second`.
    #[must_use]
    pub(crate) fn new(burst: u32, per_second: u32) -> Limit {
        Limit {
            burst: f64::from(burst),
            per_second: f64::from(per_second),
            addresses: Mutex::default(),
        }
    }

    /// Takes one request from the allowance of an address; false if none is left.
    pub(crate) fn admits(&self, address: &str, now: Instant) -> bool {
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(address) {
            addresses.retain(|_, allowance| self.left(*allowance, now) < self.burst);
            if addresses.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let full = Allowance {
            left: self.burst,
            at: now,
        };
        let allowance = addresses.entry(address.to_owned()).or_insert(full);
        let left = self.left(*allowance, now);
        let admitted = left >= 1.0;
        *allowance = Allowance {
            left: if admitted { left - 1.0 } else { left },
            at: now,
        };
        admitted
    }

    fn left(&self, allowance: Allowance, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(allowance.at).as_secs_f64();
        (allowance.left + passed * self.per_second).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_address_has_its_allowance_and_gets_it_back() {
        let (limit, start) = (Limit::new(3, 1), Instant::now());
        let admitted =
            |address, seconds| limit.admits(address, start + Duration::from_secs(seconds));
        assert!((0..3).all(|_| admitted("a", 0)));
        assert!(!admitted("a", 0));
        assert!(admitted("b", 0));
        assert!(admitted("a", 1));
        assert!(!admitted("a", 1));
        assert!((0..3).all(|_| admitted("a", 1000)));
        assert!(!admitted("a", 1000));
    }

    #[test]
    fn the_table_of_addresses_is_bounded() {
        let (limit, start) = (Limit::new(1, 1), Instant::now());
        for address in 0..ADDRESSES_MAX {
            assert!(limit.admits(&address.to_string(), start));
        }
        assert!(!limit.admits("one more", start));
        assert!(limit.admits("one more", start + Duration::from_secs(2)));
    }
}
