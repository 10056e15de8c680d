//! The bakery's clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970; 0 on a clock before that.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
