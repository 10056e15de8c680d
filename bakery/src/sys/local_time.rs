//! The local time of the day.

use std::mem::MaybeUninit;

/// Minutes since midnight, local time; `None` if the C library does not know.
pub(crate) fn minute_of_day() -> Option<u32> {
    let now = libc::time_t::try_from(crate::clock::now()).ok()?;
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call, and a zeroed `tm` is a valid one.
    let parts = unsafe {
        if libc::localtime_r(&raw const now, parts.as_mut_ptr()).is_null() {
            return None;
        }
        parts.assume_init()
    };
    let hour = u32::try_from(parts.tm_hour).ok()?;
    Some(hour * 60 + u32::try_from(parts.tm_min).ok()?)
}
