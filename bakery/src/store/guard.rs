//! Prevents publishing and sweeping at the same time. A publisher relies on objects that it found
//! in the store; the sweeper deletes objects to which nothing refers *yet*. Each creates its own
//! flag before it looks for the other's, so at least one of the two sees the other and yields. A
//! flag is an object; it is valid until it is deleted or too old, so a killed process delays others
//! but does not block them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wire::paths::LockKind;

use crate::clock;
use crate::limits::FLAG_LEN_MAX;

use super::{Key, Result, Store, StoreError};

/// Time for which a flag is valid after its holder died. A publisher holds one for the few seconds
/// between its last check of the objects and the creation of the head.
const PUBLISH_HOLD: Duration = Duration::from_secs(600);
/// A longer sweep stops, and the next one continues it.
const SWEEP_HOLD: Duration = Duration::from_secs(1800);
/// Time for which a publisher waits for a sweep, and the interval of its polls.
const WAIT: Duration = Duration::from_secs(2 * 60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Prefix of the journal of a purge among the sweepers' flags. It is valid until its purge has
/// ended, at any age.
const JOURNAL: &str = "purge-";

#[derive(Debug, Serialize, Deserialize)]
struct Flag {
    process: u32,
    /// The machine, the boot and the process namespace of the number.
    place: String,
    raised_at: u64,
}

/// A valid flag; deleted when dropped.
#[derive(Debug)]
pub struct Guard<'s> {
    store: &'s Store,
    key: Key,
    raised: Instant,
    hold: Duration,
}

impl Guard<'_> {
    /// True if the flag is still valid for others; if not, stop.
    pub fn holds(&self) -> bool {
        self.raised.elapsed() < self.hold / 2
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // A flag that remains only delays the other side until it is too old.
        if let Err(error) = self.store.delete(&self.key) {
            tracing::warn!("cannot remove {}: {error}", self.key);
        }
    }
}

/// Raise the publisher's flag, waiting for a running sweep to end.
///
/// # Errors
/// When the store fails, or a sweep does not end.
pub fn publish(store: &Store) -> Result<Guard<'_>> {
    let started = Instant::now();
    loop {
        let guard = raise(store, LockKind::Publish, PUBLISH_HOLD)?;
        let Some(sweep) = raised(store, LockKind::Sweep, SWEEP_HOLD)? else {
            return Ok(guard);
        };
        drop(guard);
        if is_journal(&sweep) && started.elapsed() > WAIT {
            return Err(cut_short(&sweep));
        }
        if started.elapsed() > WAIT {
            return Err(StoreError::Location(format!(
                "a sweep of {} has not ended ({sweep}); if no `bakery gc` is running, delete that \
                 object and try again",
                store.location()
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Creates the sweeper's flag; `None` if another process publishes or sweeps.
///
/// # Errors
/// The store fails.
pub fn sweep(store: &Store) -> Result<Option<Guard<'_>>> {
    match raised(store, LockKind::Sweep, SWEEP_HOLD)? {
        Some(key) if is_journal(&key) => return Err(cut_short(&key)),
        Some(_) => return Ok(None),
        None => {}
    }
    let guard = raise(store, LockKind::Sweep, SWEEP_HOLD)?;
    // Earlier publishers finish; later ones see our flag and wait.
    if !wait_for_publishers(store)? {
        return Ok(None);
    }
    // Of two simultaneous sweepers, the one with the lower name continues.
    let first = raised(store, LockKind::Sweep, SWEEP_HOLD)?;
    Ok((first.as_ref() == Some(&guard.key)).then_some(guard))
}

/// True if a sweep or purge is running.
///
/// # Errors
/// The store fails.
pub(crate) fn is_raised(store: &Store) -> Result<bool> {
    Ok(raised(store, LockKind::Sweep, SWEEP_HOLD)?.is_some())
}

/// Waits until nobody publishes; false if that takes too long.
///
/// # Errors
/// The store fails.
pub(crate) fn wait_for_publishers(store: &Store) -> Result<bool> {
    let started = Instant::now();
    while raised(store, LockKind::Publish, PUBLISH_HOLD)?.is_some() {
        if started.elapsed() > WAIT {
            return Ok(false);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(true)
}

/// The name of the journal of a purge: a sweeper's flag.
pub fn journal_key(id: &str) -> Key {
    Key::lock(LockKind::Sweep, &format!("{JOURNAL}{id}"))
}

/// The journals of purges that have not ended.
///
/// # Errors
/// When the store fails.
pub(crate) fn journals(store: &Store) -> Result<Vec<Key>> {
    let flags = store
        .list(&LockKind::Sweep.directory())?
        .into_iter()
        .map(|entry| entry.key);
    Ok(flags.filter(is_journal).collect())
}

fn is_journal(key: &Key) -> bool {
    key.file_name().starts_with(JOURNAL)
}

fn cut_short(key: &Key) -> StoreError {
    StoreError::Location(format!(
        "a purge is running or was interrupted ({key}); if no `bakery purge` is running, `bakery purge --resume` completes it"
    ))
}

fn raise<'s>(store: &'s Store, kind: LockKind, hold: Duration) -> Result<Guard<'s>> {
    let key = Key::lock(kind, &ulid::Ulid::generate().to_string());
    let flag = Flag {
        process: std::process::id(),
        place: place(),
        raised_at: clock::now(),
    };
    let bytes = serde_json::to_vec(&flag).unwrap_or_default();
    store.create_object(&key, Bytes::from(bytes))?;
    Ok(Guard {
        store,
        key,
        raised: Instant::now(),
        hold,
    })
}

/// A valid flag of `kind`; dead ones are deleted.
fn raised(store: &Store, kind: LockKind, hold: Duration) -> Result<Option<Key>> {
    for entry in store.list(&kind.directory())? {
        if !is_dead(store, &entry.key, hold)? {
            return Ok(Some(entry.key));
        }
        tracing::warn!("{} was left by a process that died; removing it", entry.key);
        store.delete(&entry.key)?;
    }
    Ok(None)
}

/// True if the flag is too old to be valid, or if its process was on this machine and has ended. A
/// flag from the future (a clock was set back) is valid for its usual time, but not forever: its
/// age counts in both directions.
fn is_dead(store: &Store, key: &Key, hold: Duration) -> Result<bool> {
    if is_journal(key) {
        return Ok(false);
    }
    let Some(bytes) = store.get(key, FLAG_LEN_MAX)? else {
        return Ok(true);
    };
    let Ok(flag) = serde_json::from_slice::<Flag>(&bytes) else {
        return Ok(true);
    };
    let age = clock::now().abs_diff(flag.raised_at);
    let place = place();
    Ok(age > hold.as_secs()
        || (!place.is_empty() && flag.place == place && !process_lives(flag.process)))
}

fn process_lives(process: u32) -> bool {
    std::path::Path::new("/proc")
        .join(process.to_string())
        .exists()
}

/// Empty if the kernel does not report it: then only age counts.
fn place() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match (boot, namespace) {
        (Ok(boot), Ok(namespace)) => format!("{} {}", boot.trim(), namespace.display()),
        _ => String::new(),
    }
}
