//! The single thread that writes. All waiting messages share one transaction, so a room of booting
//! machines causes only a few transactions.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use crate::metrics::Counters;
use crate::store::{Database, FleetMessage, MachineFacts};

/// Largest number of messages in the queue. The process refuses further ones, and their senders
/// retry.
const QUEUE_MAX: usize = 4096;
/// Largest number of messages in one transaction.
const BATCH_MAX: usize = 512;
/// Seconds between two prunings.
const PRUNE_EVERY_S: i64 = 3600;

/// The queue is full or the database fails; the sender may retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fleet database is busy or failing")]
pub struct Busy;

type Acknowledgement = oneshot::Sender<Result<MachineFacts, Busy>>;

/// Handle of the writer thread.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: mpsc::Sender<(FleetMessage, Acknowledgement)>,
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
    /// Starts the thread. It ends when the last `Writer` is dropped.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(
        store: Database,
        keep_days: u32,
        counters: Arc<Counters>,
    ) -> std::io::Result<Writer> {
        let (queue, heard) = mpsc::channel(QUEUE_MAX);
        std::thread::Builder::new()
            .name("fleet-writer".into())
            .spawn(move || run(store, keep_days, heard, &counters))?;
        Ok(Writer { queue })
    }

    /// Queues a message; returns after it is on the disk.
    ///
    /// # Errors
    /// The message was not stored.
    pub async fn hear(&self, heard: FleetMessage) -> Result<MachineFacts, Busy> {
        let (say, said) = oneshot::channel();
        self.queue.try_send((heard, say)).map_err(|_| Busy)?;
        said.await.unwrap_or(Err(Busy))
    }
}

fn run(
    mut store: Database,
    keep_days: u32,
    mut queue: mpsc::Receiver<(FleetMessage, Acknowledgement)>,
    counters: &Counters,
) {
    let mut pruned = 0;
    let mut waiting = Vec::with_capacity(BATCH_MAX);
    while queue.blocking_recv_many(&mut waiting, BATCH_MAX) > 0 {
        let (heard, said): (Vec<FleetMessage>, Vec<Acknowledgement>) = waiting.drain(..).unzip();
        match store.hear(&heard, now()) {
            Ok(known) => {
                for (known, said) in known.into_iter().zip(said) {
                    // The sender may have disconnected.
                    let _ = said.send(Ok(known));
                }
            }
            Err(error) => {
                tracing::error!("{error}: refused {} hellos", heard.len());
                counters.failed(heard.len());
                for said in said {
                    let _ = said.send(Err(Busy));
                }
            }
        }
        if now() - pruned >= PRUNE_EVERY_S {
            pruned = now();
            if let Err(error) = store.prune(keep_days, pruned) {
                tracing::error!("{error}: cannot delete old boots");
            }
        }
    }
}
