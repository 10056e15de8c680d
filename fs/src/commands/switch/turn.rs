//! Commands that ask a mount at the same moment take turns: the mount has one switch at a time, and
//! keeps one report.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Longest wait for a turn. The mount itself refuses what comes during a switch.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Interval of the attempts.
const ATTEMPT_EVERY: Duration = Duration::from_millis(20);

/// The lock of the mount's root directory.
#[derive(Debug)]
pub(super) struct SwitchTurn<'r> {
    root: BorrowedFd<'r>,
}

impl SwitchTurn<'_> {
    /// Waits for the lock; without it after [`WAIT_MAX`], because any program can hold it.
    pub(super) fn take(root: &OwnedFd) -> Option<SwitchTurn<'_>> {
        let since = Instant::now();
        loop {
            match flock(root, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    return Some(SwitchTurn { root: root.as_fd() });
                }
                Err(Errno::WOULDBLOCK) if since.elapsed() < WAIT_MAX => {
                    std::thread::sleep(ATTEMPT_EVERY);
                }
                Err(_) => return None,
            }
        }
    }
}

impl Drop for SwitchTurn<'_> {
    fn drop(&mut self) {
        let _ = flock(self.root, FlockOperation::Unlock);
    }
}
