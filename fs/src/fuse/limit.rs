//! The kernel's limit on the time a request may take (`fs.fuse.default_request_timeout`, `max_request_timeout`).
//!
//! A request that is not answered in time ends the whole mount, for ever. The FUSE library cannot ask for a longer time, so
//! whoever waits for a server is told EIO before the time is over, and the mount goes on.

use std::time::Duration;

/// The kernel looks no more often than this, and takes less for as much.
const LEAST: u64 = 15;

/// After how long the kernel ends a mount made now; `None`: never.
pub fn request_timeout() -> Option<Duration> {
    timeout_of(
        sysctl("/proc/sys/fs/fuse/default_request_timeout"),
        sysctl("/proc/sys/fs/fuse/max_request_timeout"),
    )
}

/// After how long a request that waits is answered: a quarter is left for a busy machine.
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
