//! One server: its addresses, connections and features.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hyper::Version;

use super::address::ServerName;
use super::error::FetchError;
use super::exchange::{Ask, H1, H2, HttpAnswer, connect, speak_h1, speak_h2};
use super::redirect;
use super::status::Counters;
use crate::limits::REDIRECTS_MAX;

/// Maximum number of idle connections to one server.
const IDLE_MAX: usize = 8;

/// A server and the connections to it. Addresses are looked up once, before the root is open.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: ServerName,
    addresses: OnceLock<Vec<SocketAddr>>,
    idle: Mutex<Vec<H1>>,
    h2: tokio::sync::Mutex<Option<H2>>,
    /// It is a bakery: HTTP/2 without TLS works.
    multiplexes: AtomicBool,
    /// HTTP/2 has worked at least once, so a failure is one of the connection, not of the server's kind.
    multiplexed: AtomicBool,
    /// `POST /v1/batch` has not failed yet.
    batches: AtomicBool,
    counters: Arc<Counters>,
}

impl Server {
    pub(crate) fn new(name: ServerName, counters: Arc<Counters>) -> Self {
        let addresses = OnceLock::new();
        if let Some(literal) = name.literal() {
            let _ = addresses.set(vec![literal]);
        }
        Server {
            name,
            addresses,
            idle: Mutex::default(),
            h2: tokio::sync::Mutex::new(None),
            multiplexes: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            batches: AtomicBool::new(false),
            counters,
        }
    }

    /// Its addresses; empty until its name was resolved.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.addresses.get().map_or(&[], Vec::as_slice)
    }

    /// Resolves the name, if that was not done yet. Stops waiting for a silent resolver after `wait`.
    pub(crate) async fn look_up(&self, wait: Duration) -> Result<(), FetchError> {
        if !self.addresses().is_empty() {
            return Ok(());
        }
        let name = self.name.clone();
        let asked = tokio::task::spawn_blocking(move || name.resolve());
        let found = match tokio::time::timeout(wait, asked).await {
            Ok(Ok(found)) => found.map_err(FetchError::LookUp)?,
            Ok(Err(_)) => {
                return Err(FetchError::LookUp(std::io::Error::other(
                    "cannot start a thread",
                )));
            }
            Err(_) => return Err(FetchError::LookUp(std::io::ErrorKind::TimedOut.into())),
        };
        let _ = self.addresses.set(found);
        Ok(())
    }

    /// The server answered as a bakery does: HTTP/2 and batches are worth trying.
    pub(crate) fn set_bakery(&self) {
        self.multiplexes.store(true, Ordering::Relaxed);
        self.batches.store(true, Ordering::Relaxed);
    }

    pub(crate) fn batches(&self) -> bool {
        self.batches.load(Ordering::Relaxed)
    }

    pub(crate) fn set_no_batches(&self) {
        self.batches.store(false, Ordering::Relaxed);
    }

    /// Sends `ask`; the answer's head has arrived when this returns.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<HttpAnswer, FetchError> {
        if self.multiplexes.load(Ordering::Relaxed) {
            match self.ask_h2(ask).await {
                // The redirect of a proxy; HTTP/1.1 follows it.
                Ok(answer) if answer.status().is_redirection() => {}
                // A proxy before the bakery may know HTTP/1.1 only.
                Err(FetchError::Broken(error)) if !self.multiplexed.load(Ordering::Relaxed) => {
                    tracing::info!(server = %self.name, %error, "the server has no HTTP/2: using HTTP/1.1");
                    self.multiplexes.store(false, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        self.ask_h1(ask).await
    }

    /// Sends `ask` on an HTTP/1.1 connection, so that a long answer has its own.
    pub(crate) async fn ask_h1(&self, ask: &Ask) -> Result<HttpAnswer, FetchError> {
        let answer = self.send_h1(ask).await?;
        let Some(mut next) = redirect::next(&self.name, ask, &answer)? else {
            return Ok(answer);
        };
        for _ in 0..REDIRECTS_MAX {
            let answer = self.send_h1(&next).await?;
            match redirect::next(&self.name, &next, &answer)? {
                Some(further) => next = further,
                None => return Ok(answer),
            }
        }
        Err(redirect::refused(&next.path))
    }

    async fn send_h1(&self, ask: &Ask) -> Result<HttpAnswer, FetchError> {
        Counters::add(&self.counters.requests, 1);
        let kept = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        if let Some(kept) = kept
            && !kept.is_closed()
        {
            match self.ask_on(kept, ask).await {
                // The server closed the idle connection meanwhile: a new one is tried.
                Err(FetchError::Broken(_)) => {}
                other => return other,
            }
        }
        self.ask_on(speak_h1(connect(self.addresses()).await?).await?, ask)
            .await
    }

    async fn ask_on(&self, mut connection: H1, ask: &Ask) -> Result<HttpAnswer, FetchError> {
        let request = ask.request(&self.name.authority, &self.name.prefix, Version::HTTP_11)?;
        let response = within(ask.stall, connection.send_request(request)).await?;
        Ok(HttpAnswer::new(response, ask.stall, Some(connection)))
    }

    async fn ask_h2(&self, ask: &Ask) -> Result<HttpAnswer, FetchError> {
        Counters::add(&self.counters.requests, 1);
        let mut connection = self.h2_connection().await?;
        let request = ask.request(&self.name.authority, &self.name.prefix, Version::HTTP_2)?;
        match within(ask.stall, connection.send_request(request)).await {
            Ok(response) => {
                self.multiplexed.store(true, Ordering::Relaxed);
                Ok(HttpAnswer::new(response, ask.stall, None))
            }
            Err(error) => {
                *self.h2.lock().await = None;
                Err(error)
            }
        }
    }

    async fn h2_connection(&self) -> Result<H2, FetchError> {
        let mut kept = self.h2.lock().await;
        if let Some(connection) = kept.as_ref()
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        let mut connection = speak_h2(connect(self.addresses()).await?).await?;
        within(super::exchange::CONNECT_WAIT, connection.ready()).await?;
        *kept = Some(connection.clone());
        Ok(connection)
    }

    /// Gives the connection of a fully read answer back.
    pub(crate) async fn keep(&self, answer: HttpAnswer) {
        let Some(mut connection) = answer.connection else {
            return;
        };
        let ready = tokio::time::timeout(Duration::from_millis(100), connection.ready()).await;
        if matches!(ready, Ok(Ok(()))) {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
        }
    }

    /// Opens the HTTP/2 connection in advance, if the server supports it.
    pub(crate) async fn warm_h2(&self) {
        if self.multiplexes.load(Ordering::Relaxed) {
            let _ = self.h2_connection().await;
        }
    }

    /// Opens a connection in advance.
    pub(crate) async fn warm(&self) -> Result<(), FetchError> {
        let connection = speak_h1(connect(self.addresses()).await?).await?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        Ok(())
    }

    /// Closes the connections: those of a failed server are not reused.
    pub(crate) async fn hang_up(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        *self.h2.lock().await = None;
    }
}

async fn within<T>(
    wait: Duration,
    exchange: impl Future<Output = hyper::Result<T>>,
) -> Result<T, FetchError> {
    tokio::time::timeout(wait, exchange)
        .await
        .map_err(|_| FetchError::Timeout {
            what: "the answer's head",
            waited: wait,
        })?
        .map_err(FetchError::Broken)
}
