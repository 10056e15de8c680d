//! The servers that have the same objects, and the choice among them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::backoff::{self, Jitter};
use super::error::{Blame, FetchError};
use super::exchange::STALL_PATIENT;
use super::fetcher::STALL_FIRST;
use super::server::Server;
use super::status::{Counters, MirrorStatus};
use crate::limits::RETRY_AFTER_MAX;

/// Time after a failure during which a server is used only after the others, even when its pause is
/// over.
const DOUBT: Duration = Duration::from_secs(60);
/// Servers of one mount.
pub(crate) const MIRRORS_MAX: usize = 32;

#[derive(Debug, Default)]
struct ServerHealth {
    failures: u32,
    corrupt: u32,
    not_before: Option<Instant>,
    failed_at: Option<Instant>,
    last_error: Option<String>,
}

#[derive(Debug)]
struct Mirror {
    server: Arc<Server>,
    health: Mutex<ServerHealth>,
}

/// The servers in the order they were named, each with its health.
#[derive(Debug)]
pub(crate) struct Mirrors {
    all: Vec<Mirror>,
    jitter: Jitter,
    counters: Arc<Counters>,
}

/// The choice of a server.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// This one, now.
    Ask(usize, Arc<Server>),
    /// None is due before this instant.
    Wait(Instant),
}

impl Mirrors {
    pub(crate) fn new(servers: Vec<Arc<Server>>, counters: Arc<Counters>) -> Self {
        let all = servers
            .into_iter()
            .take(MIRRORS_MAX)
            .map(|server| Mirror {
                server,
                health: Mutex::default(),
            })
            .collect();
        Mirrors {
            all,
            jitter: Jitter::new(),
            counters,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Arc<Server>> {
        self.all.get(index).map(|mirror| &mirror.server)
    }

    /// The best server that is not in the bit set `avoid`, or the time of the next check. Servers
    /// that never sent wrong bytes come first, then those without recent failures, then in the
    /// given order.
    pub(crate) fn choose(&self, avoid: u64, now: Instant) -> Choice {
        let mut best: Option<((u32, bool), usize)> = None;
        let mut soonest: Option<Instant> = None;
        for (index, mirror) in self.all.iter().enumerate() {
            if avoid & (1 << index) != 0 || mirror.server.addresses().is_empty() {
                continue;
            }
            let health = mirror.health.lock().unwrap_or_else(PoisonError::into_inner);
            match health.not_before {
                Some(later) if later > now => {
                    soonest = Some(soonest.map_or(later, |earlier| earlier.min(later)));
                }
                _ => {
                    let doubtful = health
                        .failed_at
                        .is_some_and(|at| now.saturating_duration_since(at) < DOUBT);
                    let rank = (health.corrupt, doubtful);
                    if best.is_none_or(|(least, _)| rank < least) {
                        best = Some((rank, index));
                    }
                }
            }
        }
        match best.and_then(|(_, index)| Some((index, self.all.get(index)?))) {
            Some((index, mirror)) => Choice::Ask(index, Arc::clone(&mirror.server)),
            None => Choice::Wait(soonest.unwrap_or_else(|| now + self.wait(3))),
        }
    }

    /// Maximum time without data from this server: longer with every failure, so that a slow server
    /// is not abandoned too early each time.
    pub(crate) fn stall(&self, index: usize) -> Duration {
        let failures = self.all.get(index).map_or(0, |mirror| {
            let health = mirror.health.lock();
            health.unwrap_or_else(PoisonError::into_inner).failures
        });
        STALL_FIRST
            .saturating_mul(1 << failures.min(8))
            .min(STALL_PATIENT)
    }

    /// True if no server is left outside `avoid`.
    pub(crate) fn exhausted(&self, avoid: u64) -> bool {
        (0..self.all.len()).all(|index| avoid & (1 << index) != 0)
    }

    /// A jittered wait after `failures` failures of one object.
    pub(crate) fn wait(&self, failures: u32) -> Duration {
        backoff::wait(failures, self.jitter.next())
    }

    /// Records a failure, logs it, and pauses the server if it is the cause.
    pub(crate) fn failed(&self, index: usize, what: &str, error: &FetchError) {
        Counters::add(&self.counters.retries, 1);
        let Some(mirror) = self.all.get(index) else {
            return;
        };
        let mut health = mirror.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.last_error = Some(error.to_string());
        if matches!(error, FetchError::Corrupt) {
            health.corrupt = health.corrupt.saturating_add(1);
            Counters::add(&self.counters.corrupt, 1);
            tracing::warn!(server = %mirror.server.name, what, "wrong bytes rejected: digest differs");
            return;
        }
        if error.blame() != Blame::Server {
            tracing::warn!(server = %mirror.server.name, what, %error, "answer refused");
            return;
        }
        health.failures = health.failures.saturating_add(1);
        health.failed_at = Some(Instant::now());
        let asked = match error {
            FetchError::Status {
                retry_after: Some(wait),
                ..
            } => (*wait).min(RETRY_AFTER_MAX),
            _ => Duration::ZERO,
        };
        let rest = self.wait(health.failures).max(asked);
        health.not_before = Some(Instant::now() + rest);
        if health.failures <= 3 || health.failures.is_power_of_two() {
            tracing::warn!(server = %mirror.server.name, what, %error, failures = health.failures,
                rest_ms = rest.as_millis(), "server failed");
        }
    }

    /// The server works.
    pub(crate) fn succeeded(&self, index: usize) {
        let Some(mirror) = self.all.get(index) else {
            return;
        };
        let mut health = mirror.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health.failures > 0 {
            tracing::info!(server = %mirror.server.name, after = health.failures, "server answers again");
        }
        health.failures = 0;
        health.not_before = None;
    }

    pub(crate) fn status(&self) -> Vec<MirrorStatus> {
        self.all
            .iter()
            .map(|mirror| {
                let health = mirror.health.lock().unwrap_or_else(PoisonError::into_inner);
                MirrorStatus {
                    server: mirror.server.name.to_string(),
                    failures: health.failures,
                    corrupt: health.corrupt,
                    last_error: health.last_error.clone(),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::ServerName;
    use super::*;

    fn mirrors(count: usize) -> Mirrors {
        let counters = Arc::new(Counters::default());
        let servers = (0..count)
            .map(|i| {
                let name = ServerName::parse(&format!("http://10.0.0.{i}")).unwrap();
                Arc::new(Server::new(name, Arc::clone(&counters)))
            })
            .collect();
        Mirrors::new(servers, counters)
    }

    fn asked(choice: Choice) -> Option<usize> {
        match choice {
            Choice::Ask(index, _) => Some(index),
            Choice::Wait(_) => None,
        }
    }

    #[test]
    fn asks_the_first_until_it_fails_and_again_after_it_recovers() {
        let mirrors = mirrors(2);
        assert_eq!(asked(mirrors.choose(0, Instant::now())), Some(0));
        mirrors.failed(
            0,
            "x",
            &FetchError::Connect(std::io::ErrorKind::ConnectionRefused.into()),
        );
        assert_eq!(asked(mirrors.choose(0, Instant::now())), Some(1));
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert_eq!(
            asked(mirrors.choose(0, later(30))),
            Some(1),
            "still in doubt"
        );
        assert_eq!(asked(mirrors.choose(0b10, later(30))), Some(0));
        assert_eq!(asked(mirrors.choose(0, later(61))), Some(0));
        mirrors.succeeded(0);
        assert_eq!(asked(mirrors.choose(0b10, Instant::now())), Some(0));
    }

    #[test]
    fn one_wrong_chunk_ranks_a_server_behind_the_honest_ones_but_does_not_drop_it() {
        let mirrors = mirrors(2);
        mirrors.failed(0, "x", &FetchError::Corrupt);
        assert_eq!(asked(mirrors.choose(0, Instant::now())), Some(1));
        assert_eq!(asked(mirrors.choose(0b10, Instant::now())), Some(0));
        assert!(mirrors.exhausted(0b11) && !mirrors.exhausted(0b10));
    }

    #[test]
    fn all_resting_gives_the_instant_of_the_first_to_wake() {
        let mirrors = mirrors(2);
        for index in 0..2 {
            mirrors.failed(
                index,
                "x",
                &FetchError::Status {
                    status: 503,
                    retry_after: Some(Duration::from_secs(2)),
                },
            );
        }
        let Choice::Wait(until) = mirrors.choose(0, Instant::now()) else {
            panic!("nobody is due")
        };
        assert!(until > Instant::now() + Duration::from_secs(1));
        assert!(until < Instant::now() + RETRY_AFTER_MAX);
    }
}
