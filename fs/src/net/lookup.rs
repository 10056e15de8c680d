//! Resolves the servers' names while the root is being opened: a network that is coming up has no resolver yet.
//! Once the root is open no name is resolved any more, because the resolver would be read from the root itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fetcher::FetcherShared;

/// Time after which a silent resolver is queried again.
const WAIT: Duration = Duration::from_secs(15);
/// Time for which the opened root waits for the names of further mirrors.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Resolves the name of server `index`, again and again, until it has an address or the root is open.
pub(crate) async fn run(inner: Arc<FetcherShared>, index: usize) {
    let Some(server) = inner.mirrors.get(index).map(Arc::clone) else {
        return;
    };
    let mut failures = 0;
    while !inner.closed.load(Ordering::Relaxed) && !inner.opened.load(Ordering::Relaxed) {
        match server.look_up(WAIT).await {
            Ok(()) => {
                inner.mirrors.succeeded(index);
                return;
            }
            Err(error) => inner.mirrors.failed(index, "its name", &error),
        }
        failures += 1;
        tokio::time::sleep(inner.mirrors.wait(failures)).await;
    }
}

/// Resolves the names that have no address yet, once more and with a short limit.
pub(crate) async fn last(inner: &FetcherShared) {
    for index in 0..inner.mirrors.len() {
        let Some(server) = inner.mirrors.get(index) else {
            continue;
        };
        if let Err(error) = server.look_up(LAST_WAIT).await {
            tracing::warn!(server = %server.name, %error, "this mirror is not used");
        }
    }
}
