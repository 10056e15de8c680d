//! Keeps the attributes that a shutdown needs in the kernel's cache.
//!
//! systemd-shutdown stops every process, including this one, and then looks for
//! `/etc/initrd-release` and reads the attributes of `/`. If the kernel has not cached them, it
//! sends a request to the stopped daemon, and the machine hangs. The kernel drops the attributes
//! after a listing of `/` (its access time) and after changes to it, and any name when memory is
//! short. Therefore a helper thread reads both through the mount, soon after such a request and at
//! intervals.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::metrics::Operation;
use crate::sys::object::proc_path;

/// The root of the first process. Our own `/` is the initramfs, and a descriptor of the mount would
/// keep it from being unmounted.
const ROOT: &str = "1/root";
const INITRD_RELEASE: &str = "1/root/etc/initrd-release";
/// Pauses before each look: the kernel drops the attributes after our answer, and on a busy machine
/// that may be after the first look.
const LOOKS: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(500),
    Duration::from_secs(3),
];
/// Interval of reads without events.
const REST: Duration = Duration::from_secs(10);

/// Reads the attributes that the kernel must have cached, after requests that make it drop them.
#[derive(Debug)]
pub(super) struct RootStat {
    notifier: SyncSender<()>,
}

impl RootStat {
    /// Starts the reading thread.
    pub(super) fn start() -> Option<RootStat> {
        let (notifier, notified) = sync_channel(1);
        let ask = || {
            let _ = rustix::fs::stat(proc_path(ROOT));
            let _ = rustix::fs::access(proc_path(INITRD_RELEASE), rustix::fs::Access::EXISTS);
        };
        let started = std::thread::Builder::new()
            .name("root-stat".into())
            .spawn(move || mind(&notified, &LOOKS, REST, ask));
        match started {
            Ok(_) => Some(RootStat { notifier }),
            Err(error) => {
                tracing::warn!(%error, "root duty: cannot keep the root in the kernel's cache");
                None
            }
        }
    }

    /// A request of this kind was answered.
    pub(super) fn answered(&self, operation: Operation) {
        if forgets(operation) {
            // One pending notification is enough.
            let _ = self.notifier.try_send(());
        }
    }
}

/// True if the kernel may drop attributes of a directory after this operation.
fn forgets(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Readdir
            | Operation::Make
            | Operation::Create
            | Operation::Unlink
            | Operation::Rmdir
            | Operation::Rename
            | Operation::Link
            | Operation::Setattr
            | Operation::Setxattr
    )
}

/// Reads at every check after a notification and after every pause, until all notifiers are
/// dropped.
fn mind(notified: &Receiver<()>, looks: &[Duration], rest: Duration, ask: impl Fn()) {
    let mut left = [].iter();
    let mut due = Instant::now() + rest;
    // The first look after a notification is still to come.
    let mut fresh = false;
    loop {
        match notified.recv_timeout(due.saturating_duration_since(Instant::now())) {
            // That look serves this notification too.
            Ok(()) if fresh => continue,
            Ok(()) => {
                left = looks.iter();
                fresh = true;
            }
            Err(RecvTimeoutError::Timeout) => {
                ask();
                fresh = false;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        due = Instant::now() + left.next().copied().unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const REST_IN_TESTS: Duration = Duration::from_secs(600);

    #[test]
    fn without_bells_there_is_a_look_now_and_then() {
        let asked = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let (notifier, notified) = sync_channel::<()>(1);
            scope.spawn(|| {
                let notified = notified;
                mind(&notified, &LOOKS, Duration::from_millis(10), || {
                    asked.fetch_add(1, Ordering::SeqCst);
                });
            });
            let until = Instant::now() + Duration::from_secs(20);
            while asked.load(Ordering::SeqCst) < 3 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(asked.load(Ordering::SeqCst) >= 3);
            drop(notifier);
        });
    }

    #[test]
    fn every_bell_is_followed_by_looks() {
        let asked = AtomicUsize::new(0);
        let looks = [Duration::from_millis(30), Duration::from_millis(60)];
        std::thread::scope(|scope| {
            let (notifier, notified) = sync_channel(1);
            scope.spawn(|| {
                let notified = notified;
                mind(&notified, &looks, REST_IN_TESTS, || {
                    asked.fetch_add(1, Ordering::SeqCst);
                });
            });
            let wait_for = |count| {
                let until = Instant::now() + Duration::from_secs(20);
                while asked.load(Ordering::SeqCst) < count && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(5));
                }
                assert_eq!(asked.load(Ordering::SeqCst), count);
            };
            notifier.try_send(()).unwrap();
            wait_for(2);
            std::thread::sleep(Duration::from_millis(150));
            wait_for(2);
            notifier.try_send(()).unwrap();
            wait_for(4);
            drop(notifier);
        });
    }

    /// Notifications without a pause must not delay the look.
    #[test]
    fn many_bells_do_not_delay_a_look() {
        let asked = AtomicUsize::new(0);
        let looks = [Duration::from_millis(30), Duration::from_millis(60)];
        std::thread::scope(|scope| {
            let (notifier, notified) = sync_channel(1);
            scope.spawn(|| {
                let notified = notified;
                mind(&notified, &looks, REST_IN_TESTS, || {
                    asked.fetch_add(1, Ordering::SeqCst);
                });
            });
            let until = Instant::now() + Duration::from_secs(20);
            while asked.load(Ordering::SeqCst) < 3 && Instant::now() < until {
                let _ = notifier.try_send(());
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(asked.load(Ordering::SeqCst) >= 3);
            drop(notifier);
        });
    }
}
