//! Answers that several requests share: when a whole room is switched on, one look at the store
//! answers all machines that ask for the same records.
//!
//! A request never gets an answer whose look began before the request came. It joins the look that
//! has not begun, which begins when the running one has ended.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, WeakShared};

use super::limits;

/// The looks of all keys. A look that nobody waits for any longer is dropped.
pub(super) struct SharedAnswers<K, V: Clone> {
    looks: Arc<Mutex<HashMap<K, Looks<V>>>>,
}

type WeakLook<V> = WeakShared<BoxFuture<'static, V>>;

/// At most one look runs, and one waits for its end.
struct Looks<V: Clone> {
    running: Option<WeakLook<V>>,
    waiting: Option<WeakLook<V>>,
}

impl<V: Clone> Looks<V> {
    fn is_used(&self) -> bool {
        let alive = |look: &Option<WeakLook<V>>| look.as_ref().and_then(WeakShared::upgrade);
        alive(&self.running).is_some() || alive(&self.waiting).is_some()
    }
}

impl<K, V: Clone> Default for SharedAnswers<K, V> {
    fn default() -> Self {
        Self {
            looks: Arc::default(),
        }
    }
}

impl<K, V: Clone> std::fmt::Debug for SharedAnswers<K, V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SharedAnswers")
    }
}

impl<K, V> SharedAnswers<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The answer for this key, from a look that begins at or after this call.
    pub(super) fn get<F>(&self, key: K, look: F) -> impl Future<Output = V> + Send + use<K, V, F>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut looks = lock(&self.looks);
        if looks.len() >= limits::SHARED_ANSWERS_SWEPT {
            looks.retain(|_, of_key| of_key.is_used());
        }
        let of_key = looks.entry(key.clone()).or_insert(Looks {
            running: None,
            waiting: None,
        });
        if let Some(waiting) = of_key.waiting.as_ref().and_then(WeakShared::upgrade) {
            return waiting;
        }
        let before = of_key.running.as_ref().and_then(WeakShared::upgrade);
        let all = Arc::clone(&self.looks);
        let made = async move {
            if let Some(before) = before {
                before.await;
            }
            if let Some(of_key) = lock(&all).get_mut(&key) {
                of_key.running = of_key.waiting.take();
            }
            look.await
        };
        let made = made.boxed().shared();
        of_key.waiting = made.downgrade();
        made
    }
}

fn lock<K, V: Clone>(looks: &Mutex<HashMap<K, Looks<V>>>) -> MutexGuard<'_, HashMap<K, Looks<V>>> {
    // Every change is one assignment, so a panic elsewhere leaves nothing half done.
    looks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::sync::Semaphore;

    use super::*;

    /// A look that counts its beginnings and ends when it is let.
    fn look(
        begun: &Arc<AtomicUsize>,
        end: &Arc<Semaphore>,
    ) -> impl Future<Output = usize> + Send + 'static {
        let (begun, end) = (Arc::clone(begun), Arc::clone(end));
        async move {
            let number = begun.fetch_add(1, Relaxed);
            end.acquire().await.unwrap().forget();
            number
        }
    }

    #[tokio::test]
    async fn a_request_during_a_look_gets_the_next_one_and_shares_it() {
        let answers = SharedAnswers::<&str, usize>::default();
        let (begun, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let first = tokio::spawn(answers.get("office", look(&begun, &end)));
        while begun.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let later: Vec<_> = (0..100)
            .map(|_| tokio::spawn(answers.get("office", look(&begun, &end))))
            .collect();
        let other = tokio::spawn(answers.get("lab", look(&begun, &end)));
        while begun.load(Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        end.add_permits(3);
        assert_eq!(first.await.unwrap(), 0);
        assert_eq!(other.await.unwrap(), 1, "another key waits for nothing");
        for one in later {
            assert_eq!(one.await.unwrap(), 2);
        }
        assert_eq!(begun.load(Relaxed), 3);
    }

    #[tokio::test]
    async fn a_look_whose_requests_have_ended_stops_nobody_and_is_forgotten() {
        let answers = SharedAnswers::<usize, usize>::default();
        let (begun, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        for key in 0..=limits::SHARED_ANSWERS_SWEPT {
            let mut left = Box::pin(answers.get(key, look(&begun, &end)));
            assert!(futures::poll!(&mut left).is_pending());
        }
        assert!(answers.looks.lock().unwrap().len() <= 2);
        let key = limits::SHARED_ANSWERS_SWEPT;
        let mut left = Box::pin(answers.get(key, look(&begun, &end)));
        assert!(futures::poll!(&mut left).is_pending());
        let again = tokio::spawn(answers.get(key, look(&begun, &end)));
        drop(left);
        end.add_permits(2);
        assert_eq!(again.await.unwrap(), key + 2);
    }
}
