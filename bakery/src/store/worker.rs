//! Runs the store's futures on threads of our own, and waits for them from any thread.

use std::future::Future;
use std::sync::{OnceLock, mpsc};

use tokio::runtime::Runtime;

/// Connections need a driver, not many threads; disk work uses tokio's blocking threads.
const WORKER_COUNT: usize = 2;

/// Wait for `work`. Unlike `block_on` this may be called on a thread of another runtime; it
/// blocks that thread.
pub(crate) fn wait<T, F>(work: F) -> object_store::Result<T>
where
    T: Send + 'static,
    F: Future<Output = object_store::Result<T>> + Send + 'static,
{
    let gone = || object_store::Error::Generic {
        store: "bakery",
        source: "the worker threads of the store are gone".into(),
    };
    let runtime = runtime().ok_or_else(gone)?;
    let (send, receive) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        // The receiver waits below; it is gone only if its thread is.
        let _ = send.send(work.await);
    });
    receive.recv().map_err(|_| gone())?
}

fn runtime() -> Option<&'static Runtime> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(WORKER_COUNT)
                .thread_name("bakery-store")
                .enable_all()
                .build()
                .ok()
        })
        .as_ref()
}
