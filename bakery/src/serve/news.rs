//! `GET /v1/newest/<system>/<profile>[?ring=NAME][&after=REVISION&wait=SECONDS]`: the number of the
//! revision that a machine of the ring gets. With `after` the answer waits until there is another one,
//! so that machines that follow a system take new revisions at once without many requests.
//!
//! One task looks at each history for which requests wait, however many there are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use wire::manifest::{DEFAULT_RING, ProfileName};

use super::object::{ObjectError, Objects};
use super::routes::{absent, refused};
use super::{Server, heads, limits, menus, rings};

/// The state of a history: its newest revision, and the number of its newest ring record.
type HistoryState = (u64, u64);

/// The requests that wait for new revisions.
#[derive(Debug)]
pub(super) struct News {
    histories: Mutex<BTreeMap<ProfileName, Arc<watch::Sender<HistoryState>>>>,
    waiting: AtomicUsize,
    waiting_max: usize,
    /// True when the server ends.
    stop: OnceLock<watch::Receiver<bool>>,
}

/// One request that waits.
struct WaitingRequest<'n>(&'n News);

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl News {
    /// At most `waiting_max` requests wait; further ones are answered at once.
    pub(super) fn new(waiting_max: usize) -> News {
        News {
            histories: Mutex::default(),
            waiting: AtomicUsize::new(0),
            waiting_max,
            stop: OnceLock::new(),
        }
    }

    /// No request waits any more when `stop` becomes true.
    pub(super) fn end_with(&self, stop: watch::Receiver<bool>) {
        let _ = self.stop.set(stop);
    }

    fn enter(&self) -> Option<WaitingRequest<'_>> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let entered = WaitingRequest(self);
        (before < self.waiting_max).then_some(entered)
    }

    async fn stopped(&self) {
        match self.stop.get() {
            // A dropped sender means stop as well.
            Some(stop) => drop(stop.clone().wait_for(|stop| *stop).await),
            None => std::future::pending().await,
        }
    }
}

/// The changes of a history from now on.
fn changes(
    server: &Arc<Server>,
    name: &ProfileName,
    seen: HistoryState,
) -> watch::Receiver<HistoryState> {
    let histories = &server.news.histories;
    let mut histories = histories.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(history) = histories.get(name) {
        return history.subscribe();
    }
    let (history, changes) = watch::channel(seen);
    let history = Arc::new(history);
    histories.insert(name.clone(), Arc::clone(&history));
    tokio::spawn(look(Arc::clone(server), name.clone(), history));
    changes
}

/// Looks at a history until no request waits for it.
async fn look(server: Arc<Server>, name: ProfileName, history: Arc<watch::Sender<HistoryState>>) {
    let every = match server.objects.is_directory() {
        true => limits::NEWS_EVERY,
        false => limits::NEWS_EVERY_OF_BUCKET,
    };
    loop {
        sleep(every).await;
        {
            let histories = &server.news.histories;
            let mut histories = histories.lock().unwrap_or_else(PoisonError::into_inner);
            if history.receiver_count() == 0 {
                histories.remove(&name);
                return;
            }
        }
        // A store that cannot be read now may be readable the next time.
        if let Ok((_, seen)) = current(&server.objects, &name, DEFAULT_RING).await {
            history.send_if_modified(|before| std::mem::replace(before, seen) != seen);
        }
    }
}

/// The revision of a ring, and the state of its history.
async fn current(
    objects: &Objects,
    name: &ProfileName,
    ring: &str,
) -> Result<(u64, HistoryState), ObjectError> {
    let newest = heads::newest(objects, name).await?;
    let rings = rings::newest(objects, name).await?;
    let number = rings.as_ref().map_or(0, |rings| rings.record.number);
    let current = rings.map_or(newest, |rings| rings.current(ring, newest));
    Ok((current, (newest, number)))
}

/// Handles the request.
pub(super) async fn get(
    State(server): State<Arc<Server>>,
    Path((system, profile)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let Ok(name) = ProfileName::new(&system, &profile) else {
        return absent();
    };
    let query = query.as_deref();
    let ring = rings::of_query(query).unwrap_or_else(|| DEFAULT_RING.to_owned());
    let number = |key: &str| {
        let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == key)?;
        value.parse::<u64>().ok()
    };
    let wait = Duration::from_secs(number("wait").unwrap_or(0)).min(limits::NEWS_WAIT_MAX);
    let answer = match number("after") {
        Some(after) => other_than(&server, &name, &ring, after, wait).await,
        None => current(&server.objects, &name, &ring)
            .await
            .map(|found| found.0),
    };
    match answer {
        Ok(number) => {
            let never = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            (never, format!("{number}\n")).into_response()
        }
        Err(ObjectError::Missing) => menus::listing(&server, &name.full()).await,
        Err(error) => refused(&server, &error),
    }
}

/// The revision of a ring, as soon as it is another one than `after`, or after `wait`.
async fn other_than(
    server: &Arc<Server>,
    name: &ProfileName,
    ring: &str,
    after: u64,
    wait: Duration,
) -> Result<u64, ObjectError> {
    let until = Instant::now() + wait;
    let entered = server.news.enter();
    let mut changes: Option<watch::Receiver<HistoryState>> = None;
    loop {
        // What comes after the look below is a change.
        if let Some(changes) = &mut changes {
            changes.borrow_and_update();
        }
        let (number, seen) = current(&server.objects, name, ring).await?;
        if number != after || entered.is_none() || Instant::now() >= until {
            return Ok(number);
        }
        let Some(changes) = &mut changes else {
            changes = Some(self::changes(server, name, seen));
            continue;
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ok(number) },
            () = sleep_until(until) => {}
            () = server.news.stopped() => return Ok(number),
        }
    }
}
