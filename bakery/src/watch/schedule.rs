//! Selects the waiting jobs to start now, without side effects.

use std::collections::HashSet;
use std::time::Instant;

use crate::jobs::{Job, Target};

/// A job in the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The job to run.
    pub(super) job: Job,
    /// The target of the job.
    pub(super) target: Target,
    /// Not before this time, after a baker's death.
    pub(super) not_before: Option<Instant>,
}

/// Selects at most `free` jobs of a queue in order of arrival: per profile only the first, and none
/// while one of the same profile is running. A paused job delays only later ones of its profile,
/// because their order matters.
pub(super) fn choose(
    queue: Vec<Waiting>,
    busy: &HashSet<Target>,
    free: usize,
    now: Instant,
) -> Vec<Waiting> {
    let mut taken = busy.clone();
    let mut chosen = Vec::new();
    for waiting in queue {
        let first = taken.insert(waiting.target.clone());
        let ready = waiting.not_before.is_none_or(|at| at <= now);
        if first && ready && chosen.len() < free {
            chosen.push(waiting);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ulid::Ulid;

    use super::*;
    use crate::jobs::SpoolState;

    fn waiting(number: u128, target: &str, pause: Option<Instant>) -> Waiting {
        Waiting {
            job: Job {
                id: Ulid::from(number),
                state: SpoolState::Queued,
                path: "x".into(),
            },
            target: target.parse().unwrap(),
            not_before: pause,
        }
    }

    fn ids(chosen: &[Waiting]) -> Vec<u128> {
        chosen.iter().map(|one| u128::from(one.job.id)).collect()
    }

    #[test]
    fn order_within_a_profile_and_parallel_across() {
        let now = Instant::now();
        let queue = || {
            vec![
                waiting(1, "a", None),
                waiting(2, "a", None),
                waiting(3, "b", None),
                waiting(4, "a/x", None),
            ]
        };
        let none = HashSet::new();
        assert_eq!(ids(&choose(queue(), &none, 9, now)), [1, 3, 4]);
        assert_eq!(ids(&choose(queue(), &none, 2, now)), [1, 3]);
        assert_eq!(ids(&choose(queue(), &none, 0, now)), []);
        let busy = HashSet::from(["a".parse().unwrap()]);
        assert_eq!(ids(&choose(queue(), &busy, 9, now)), [3, 4]);
    }

    #[test]
    fn a_pause_holds_back_its_own_profile_only() {
        let now = Instant::now();
        let later = Some(now + Duration::from_secs(1));
        let queue = || {
            vec![
                waiting(1, "a", later),
                waiting(2, "a", None),
                waiting(3, "b", None),
            ]
        };
        assert_eq!(ids(&choose(queue(), &HashSet::new(), 9, now)), [3]);
        assert_eq!(
            ids(&choose(
                queue(),
                &HashSet::new(),
                9,
                now + Duration::from_secs(2)
            )),
            [1, 3]
        );
    }
}
