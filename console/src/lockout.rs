//! Limits on attempts to log in: for each account, and for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::text::now;

/// Wrong passwords of an account before it is locked.
const FAILURES_MAX: u32 = 5;
/// The first lock of an account, seconds; doubled by each further failure.
const LOCK_FIRST_S: u64 = 30;
/// The longest lock.
const LOCK_MAX_S: u64 = 15 * 60;
/// Failures of one address in [`WINDOW_S`] before it is refused.
const ADDRESS_MAX: u32 = 30;
/// Seconds after which failures do not count any more.
const WINDOW_S: u64 = 15 * 60;
/// Maximum number of entries in the table.
const ENTRIES_MAX: usize = 16_384;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum LockoutKey {
    Account(String),
    Address(IpAddr),
}

#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    last: u64,
    until: u64,
}

/// The failures that count.
#[derive(Debug, Default)]
pub(crate) struct Lockout(Mutex<HashMap<LockoutKey, Failures>>);

impl Lockout {
    /// Seconds until another attempt is allowed; `None`: now.
    pub(crate) fn wait(&self, name: &str, address: IpAddr) -> Option<u64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |whose: &LockoutKey| all.get(whose).map_or(0, |one| one.until);
        let until =
            of(&LockoutKey::Account(name.to_owned())).max(of(&LockoutKey::Address(address)));
        until.checked_sub(now()).filter(|left| *left > 0)
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, name: &str, address: IpAddr) {
        let now = now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ENTRIES_MAX {
            all.retain(|_, one| one.until > now || one.last + WINDOW_S > now);
        }
        if all.len() >= ENTRIES_MAX {
            // The table is full of fresh entries: the oldest is dropped, but never a locked
            // account.
            let idle = all.iter().filter(|(_, one)| one.until <= now);
            let oldest = idle
                .min_by_key(|(_, one)| one.last)
                .map(|(whose, _)| whose.clone());
            oldest.and_then(|whose| all.remove(&whose));
        }
        let short: String = name.chars().take(64).collect();
        for (whose, max) in [
            (LockoutKey::Account(short), FAILURES_MAX),
            (LockoutKey::Address(address), ADDRESS_MAX),
        ] {
            let one = all.entry(whose).or_default();
            if one.last + WINDOW_S < now {
                one.count = 0;
            }
            one.count = one.count.saturating_add(1);
            one.last = now;
            if let Some(beyond) = one.count.checked_sub(max) {
                one.until = now + (LOCK_FIRST_S << beyond.min(16)).min(LOCK_MAX_S);
            }
        }
    }

    /// Deletes the failures of an account that logged in.
    pub(crate) fn succeeded(&self, name: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&LockoutKey::Account(name.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_failure_locks_and_the_next_locks_longer() {
        let lockout = Lockout::default();
        let here: IpAddr = [127, 0, 0, 1].into();
        for _ in 0..4 {
            lockout.failed("ann", here);
            assert_eq!(lockout.wait("ann", here), None);
        }
        lockout.failed("ann", here);
        let first = lockout.wait("ann", here).unwrap();
        lockout.failed("ann", here);
        assert!(lockout.wait("ann", here).unwrap() > first);
        assert_eq!(lockout.wait("bob", here), None);
        lockout.succeeded("ann");
        assert_eq!(lockout.wait("ann", here), None);
    }

    #[test]
    fn an_address_that_tries_many_names_is_locked() {
        let lockout = Lockout::default();
        let here: IpAddr = [192, 0, 2, 7].into();
        for number in 0..30 {
            lockout.failed(&number.to_string(), here);
        }
        assert!(lockout.wait("ann", here).is_some());
        assert_eq!(lockout.wait("ann", [192, 0, 2, 8].into()), None);
    }
}
