//! A command that waits long says so.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

/// Runs `wait`, and meanwhile `say` if `wait` takes longer than `after`.
pub(super) fn with_notice<T>(
    after: Duration,
    say: impl FnOnce() + Send,
    wait: impl FnOnce() -> T,
) -> T {
    let (done, waiting) = channel::<()>();
    std::thread::scope(|scope| {
        let wait_and_say = move || {
            if waiting.recv_timeout(after) == Err(RecvTimeoutError::Timeout) {
                say();
            }
        };
        // Without a thread there is no notice.
        let _ = Builder::new().spawn_scoped(scope, wait_and_say);
        let result = wait();
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_said_and_a_short_one_is_not() {
        let (said, waiting) = channel();
        let result = with_notice(
            Duration::ZERO,
            || said.send("it waits").unwrap(),
            || waiting.recv().unwrap(),
        );
        assert_eq!(result, "it waits");
        let hour = Duration::from_secs(3600);
        assert_eq!(with_notice(hour, || panic!("too early"), || 7), 7);
    }
}
