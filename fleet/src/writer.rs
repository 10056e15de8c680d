//! The one thread that writes: what was heard meanwhile shares one transaction, so a room that boots at once costs a
//! few of them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use crate::metrics::Counters;
use crate::store::{Heard, Known, Store};

/// Hellos that wait for the database. More are refused: their senders try again.
const QUEUE_MAX: usize = 4096;
/// Hellos of one transaction.
const BATCH_MAX: usize = 512;
/// Seconds between two prunings.
const PRUNE_EVERY_S: i64 = 3600;

/// The database has no room or no time: the sender may try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database of the fleet takes nothing now")]
pub struct Busy;

type Said = oneshot::Sender<Result<Known, Busy>>;

/// The way to the writer.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: mpsc::Sender<(Heard, Said)>,
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Writer {
    /// Starts the thread. It ends with the last `Writer`.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(store: Store, keep_days: u32, counters: Arc<Counters>) -> std::io::Result<Writer> {
        let (queue, heard) = mpsc::channel(QUEUE_MAX);
        std::thread::Builder::new()
            .name("fleet-writer".into())
            .spawn(move || run(store, keep_days, heard, &counters))?;
        Ok(Writer { queue })
    }

    /// Has something written; returns when it is on the disk.
    ///
    /// # Errors
    /// It was not written.
    pub async fn hear(&self, heard: Heard) -> Result<Known, Busy> {
        let (say, said) = oneshot::channel();
        self.queue.try_send((heard, say)).map_err(|_| Busy)?;
        said.await.unwrap_or(Err(Busy))
    }
}

fn run(
    mut store: Store,
    keep_days: u32,
    mut queue: mpsc::Receiver<(Heard, Said)>,
    counters: &Counters,
) {
    let mut pruned = 0;
    let mut waiting = Vec::with_capacity(BATCH_MAX);
    while queue.blocking_recv_many(&mut waiting, BATCH_MAX) > 0 {
        let (heard, said): (Vec<Heard>, Vec<Said>) = waiting.drain(..).unzip();
        match store.hear(&heard, now()) {
            Ok(known) => {
                for (known, said) in known.into_iter().zip(said) {
                    // Whoever asked may have gone.
                    let _ = said.send(Ok(known));
                }
            }
            Err(error) => {
                tracing::error!("{error}: {} hellos were refused", heard.len());
                counters.failed(heard.len());
                for said in said {
                    let _ = said.send(Err(Busy));
                }
            }
        }
        if now() - pruned >= PRUNE_EVERY_S {
            pruned = now();
            if let Err(error) = store.prune(keep_days, pruned) {
                tracing::error!("{error}: old boots stay");
            }
        }
    }
}
