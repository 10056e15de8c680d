//! Connections: accepts them within a limit, distinguishes HTTP/1 from HTTP/2, and ends them in order.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::stream::ObjectStream;
use super::{Server, limits};
use crate::sys::sending::MappedFiles;

/// The first bytes of an HTTP/2 client with prior knowledge.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The local port of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Port(pub(super) u16);

/// Limits on the number of connections.
#[derive(Debug)]
pub(super) struct ConnectionLimits {
    /// The total limit.
    pub(super) connections_max: usize,
    /// The limit of one address; none: its share of all.
    pub(super) per_address: Option<usize>,
}

/// Accepts on every listener until it is stopped; returns when the connections have ended or the
/// grace period is over.
pub(super) async fn accept(
    listeners: Vec<TcpListener>,
    app: Router,
    server: Arc<Server>,
    connection_limits: ConnectionLimits,
    stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(connection_limits.connections_max));
    let addresses = Arc::new(Addresses::new(&connection_limits));
    let mut tasks = Vec::new();
    for listener in listeners {
        let port = listener.local_addr().map_or(0, |address| address.port());
        let acceptor = Acceptor {
            listener,
            app: app.clone().layer(axum::Extension(Port(port))),
            server: Arc::clone(&server),
            permits: Arc::clone(&permits),
            addresses: Arc::clone(&addresses),
            graceful: GracefulShutdown::new(),
            stop: stop.clone(),
        };
        tasks.push(tokio::spawn(acceptor.run()));
    }
    let ended = futures::future::join_all(tasks).await;
    let closing = ended.into_iter().filter_map(|ended| match ended {
        Ok(graceful) => Some(graceful.shutdown()),
        Err(error) => {
            tracing::error!("a listener failed: {error}");
            None
        }
    });
    let closing = futures::future::join_all(closing);
    if timeout(limits::SHUTDOWN_GRACE, closing).await.is_err() {
        tracing::warn!("some answers were aborted after the grace period");
    }
}

/// Number of connections of each address.
struct Addresses {
    open: Mutex<HashMap<IpAddr, usize>>,
    most: usize,
}

impl Addresses {
    fn new(connection_limits: &ConnectionLimits) -> Self {
        let share = connection_limits.connections_max / limits::CONNECTIONS_OF_ADDRESS;
        let share = share.max(limits::CONNECTIONS_OF_ADDRESS_MIN);
        Self {
            open: Mutex::default(),
            most: connection_limits.per_address.unwrap_or(share),
        }
    }

    /// Counts one more connection of this address for as long as the value lives; `None` if the address has its
    /// share.
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<OpenConnection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(OpenConnection {
            of: Arc::clone(self),
            address,
        })
    }
}

/// The client of a connection, for the log and the fleet; in every request's extensions if either is enabled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// One connection of an address.
struct OpenConnection {
    of: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut open = self.of.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

struct Acceptor {
    listener: TcpListener,
    app: Router,
    server: Arc<Server>,
    permits: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    graceful: GracefulShutdown,
    stop: watch::Receiver<bool>,
}

impl Acceptor {
    /// Accepts until it is stopped; returns the future that waits for the connections to end.
    async fn run(self) -> GracefulShutdown {
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.next() => accepted,
                () = stopped(&mut stop) => return self.graceful,
            };
            match accepted {
                Ok((stream, address, permit)) => match self.addresses.enter(address) {
                    Some(entered) => self.take(stream, entered, permit),
                    None => {
                        let metrics = &self.server.metrics;
                        metrics.connections_failed.fetch_add(1, Relaxed);
                        tracing::debug!("{address} has used its share of the connections");
                    }
                },
                // Out of descriptors, or the peer has closed the connection already: neither may end the
                // server, and the first must not cause a busy loop.
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Accepts one connection when the limit allows it; further ones wait in the kernel's queue.
    async fn next(&self) -> io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.server.metrics.connections_waited.fetch_add(1, Relaxed);
                let permit = Arc::clone(&self.permits).acquire_owned().await;
                permit.map_err(io::Error::other)?
            }
        };
        let (stream, peer) = self.listener.accept().await?;
        Ok((stream, peer.ip().to_canonical(), permit))
    }

    fn take(&self, stream: TcpStream, entered: OpenConnection, permit: OwnedSemaphorePermit) {
        let metrics = &self.server.metrics;
        metrics.connections.fetch_add(1, Relaxed);
        metrics.connections_open.fetch_add(1, Relaxed);
        let mut app = self.app.clone();
        if tracing::enabled!(tracing::Level::INFO) || self.server.fleet.is_some() {
            app = app.layer(Extension(Peer(entered.address)));
        }
        let (server, watcher) = (Arc::clone(&self.server), self.graceful.watcher());
        let (stop, files) = (self.stop.clone(), self.server.objects.files().clone());
        tokio::spawn(async move {
            if let Err(error) = serve(stream, files, app, watcher, stop).await {
                server.metrics.connections_failed.fetch_add(1, Relaxed);
                tracing::debug!("connection ended: {error}");
            }
            server.metrics.connections_open.fetch_sub(1, Relaxed);
            drop((entered, permit));
        });
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A dropped sender means stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn serve(
    stream: TcpStream,
    files: MappedFiles,
    app: Router,
    watcher: Watcher,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    // Ends connections whose peer disappeared or stopped reading: nothing else would.
    rustix::net::sockopt::set_tcp_user_timeout(&stream, limits::PEER_SILENCE_MS)?;
    rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
    let h2 = tokio::select! {
        h2 = timeout(limits::HEAD_TIMEOUT, speaks_h2(&stream)) => h2??,
        () = stopped(&mut stop) => return Ok(()),
    };
    let builder = builder(h2);
    let service = TowerToHyperService::new(app);
    let connection =
        builder.serve_connection(TokioIo::new(ObjectStream::new(stream, files)), service);
    watcher.watch(connection.into_owned()).await
}

fn builder(h2: bool) -> auto::Builder<TokioExecutor> {
    // GRUB looks for `Content-Length: ` in exactly these letters.
    let mut builder = auto::Builder::new(TokioExecutor::new()).title_case_headers(true);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIMEOUT)
        .max_headers(limits::HEADERS_MAX)
        .max_buf_size(limits::HEAD_LEN_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits::HEAD_LEN_MAX).unwrap_or(u32::MAX))
        .max_send_buf_size(1 << 20)
        .keep_alive_interval(limits::HEAD_TIMEOUT)
        .keep_alive_timeout(limits::HEAD_TIMEOUT);
    if h2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    }
}

/// Reads the first bytes without consuming them.
async fn speaks_h2(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await?;
        let matches = seen
            .iter()
            .zip(PREFACE)
            .take(count)
            .all(|(one, other)| one == other);
        if count == 0 || !matches {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        // An incomplete preface stays readable, so this waits by the clock.
        sleep(Duration::from_millis(5)).await;
    }
}
