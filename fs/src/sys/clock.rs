//! The time of day.
#![allow(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

/// Minutes since midnight in the machine's time zone; in UTC if that is unknown.
pub(crate) fn minute_of_day() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs());
    let utc = u32::try_from(seconds / 60 % (24 * 60)).unwrap_or(0);
    let Ok(seconds) = libc::time_t::try_from(seconds) else {
        return utc;
    };
    let mut local = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call; all zeros are a valid `tm`.
    let local = unsafe {
        libc::localtime_r(&seconds, local.as_mut_ptr());
        local.assume_init()
    };
    let minute = local
        .tm_hour
        .saturating_mul(60)
        .saturating_add(local.tm_min);
    u32::try_from(minute).unwrap_or(utc)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_day_has_1440_minutes() {
        assert!(super::minute_of_day() < 24 * 60);
    }
}
