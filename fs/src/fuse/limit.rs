//! The kernel's limit on the time of a request (`fs.fuse.default_request_timeout`,
//! `max_request_timeout`).
//!
//! A request without an answer in time ends the whole mount permanently. The FUSE library cannot
//! extend the time, so a request that waits for a server gets EIO before, and the mount survives.

use std::time::Duration;

/// Interval of the kernel's checks; it rounds shorter limits up to this.
const LEAST: u64 = 15;

/// Time after which the kernel ends a new mount; `None`: never.
pub(crate) fn request_timeout() -> Option<Duration> {
    timeout_of(
        sysctl("/proc/sys/fs/fuse/default_request_timeout"),
        sysctl("/proc/sys/fs/fuse/max_request_timeout"),
    )
}

/// Time after which a waiting request is answered: a quarter remains for a busy machine.
pub(super) fn answered_after(timeout: Duration) -> Duration {
    timeout.mul_f32(0.75)
}

/// Seconds; 0: no limit, or a kernel without one.
fn sysctl(path: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn timeout_of(default: u64, most: u64) -> Option<Duration> {
    let seconds = match (default, most) {
        (0, 0) => return None,
        (0, most) => most,
        (default, 0) => default,
        (default, most) => default.min(most),
    };
    Some(Duration::from_secs(seconds.max(LEAST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_of_both_holds_and_neither_is_shorter_than_the_least() {
        let seconds = |default, most| timeout_of(default, most).map(|limit| limit.as_secs());
        assert_eq!(seconds(0, 0), None);
        assert_eq!(seconds(40, 0), Some(40));
        assert_eq!(seconds(0, 30), Some(30));
        assert_eq!(seconds(40, 30), Some(30));
        assert_eq!(seconds(1, 0), Some(15));
        assert!(answered_after(Duration::from_secs(15)) < Duration::from_secs(12));
    }
}
