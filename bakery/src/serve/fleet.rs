//! The client of the fleet process: forwards hellos, and asks for assignments for the menus.
//!
//! Every request has a short deadline. Without an answer the server behaves as without a fleet, so
//! a dead process stops no boot (`docs/FLEET.md`, F1.3).

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use fleet::messages::{FetchedNote, MenuAnswer, MenuQuestion, SERVING, SERVING_EVERY};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wire::machine::Identity;
use wire::paths::route;

use super::Server;
use super::connection::{Failure, Peer};

/// Longest wait for an assignment. After that the machine gets the site's menu.
const MENU_WAIT: Duration = Duration::from_millis(1500);
/// Longest wait for the acknowledgement of a hello.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// Largest number of concurrent requests to the process. The server refuses further hellos, and
/// their senders retry.
const AT_ONCE_MAX: usize = 256;
/// Longest answer, bytes: the metrics page of a large site.
const ANSWER_LEN_MAX: usize = 1 << 20;

/// The address of the fleet process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A Unix socket on this machine.
    Local(PathBuf),
    /// A TCP address, `HOST:PORT`.
    Remote(String),
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let has_port = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
        if text.starts_with('/') {
            Ok(Self::Local(text.into()))
        } else if text.rsplit_once(':').is_some_and(has_port) {
            Ok(Self::Remote(text.to_owned()))
        } else {
            Err(format!(
                "'{text}' is neither the path of a socket nor HOST:PORT"
            ))
        }
    }
}

/// The client of the fleet process.
#[derive(Debug)]
pub(super) struct Fleet {
    address: Address,
    at_once: Arc<Semaphore>,
}

/// The fleet process does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the fleet process does not answer: {0}")]
pub(super) struct NoAnswer(String);

impl Fleet {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            at_once: Arc::new(Semaphore::new(AT_ONCE_MAX)),
        }
    }

    /// Asks for the assignment of a machine; `None` if the process does not answer in time.
    pub(super) async fn menu(&self, machine: Identity, from: Option<IpAddr>) -> Option<MenuAnswer> {
        let body = serde_json::to_vec(&MenuQuestion { machine }).ok()?;
        let answer = self
            .ask("POST", "/menu", body.into(), from, MENU_WAIT)
            .await;
        match answer {
            Ok((StatusCode::OK, body)) => serde_json::from_slice(&body).ok(),
            Ok((status, _)) => {
                tracing::warn!("the fleet process refused a menu request: {status}");
                None
            }
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        }
    }

    /// Reports in the background that a machine fetched a file of its menu.
    pub(super) fn fetched(self: &Arc<Self>, note: &FetchedNote, from: Option<IpAddr>) {
        let Ok(body) = serde_json::to_vec(note) else {
            return;
        };
        let fleet = Arc::clone(self);
        tokio::spawn(async move {
            let answer = fleet.ask("POST", "/fetched", body.into(), from, HELLO_WAIT);
            if let Err(error) = answer.await {
                tracing::debug!("{error}");
            }
        });
    }

    /// Reports that this server runs: without the report the process assumes an outage, and blames no
    /// revision.
    /// Ends with the server.
    pub(super) async fn keep_telling(self: Arc<Self>) {
        loop {
            let answer = self.ask("POST", SERVING, Bytes::new(), None, MENU_WAIT);
            if let Err(error) = answer.await {
                tracing::debug!("{error}");
            }
            tokio::time::sleep(SERVING_EVERY).await;
        }
    }

    /// The metrics page of the process, after `bakery_fleet_up`; only that if the process does not
    /// answer.
    pub(super) async fn metrics(&self) -> String {
        let answer = self
            .ask("GET", "/metrics", Bytes::new(), None, MENU_WAIT)
            .await;
        let up = matches!(answer, Ok((StatusCode::OK, _)));
        let body = answer.map(|(_, body)| body).unwrap_or_default();
        let mut page = format!(
            "# HELP bakery_fleet_up The fleet process answers.\n# TYPE bakery_fleet_up gauge\nbakery_fleet_up {}\n",
            u8::from(up)
        );
        if up {
            page.push_str(&String::from_utf8_lossy(&body));
        }
        page
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
        from: Option<IpAddr>,
        wait: Duration,
    ) -> Result<(StatusCode, Bytes), NoAnswer> {
        let failed = |error: &dyn std::fmt::Display| NoAnswer(error.to_string());
        let _place = self.at_once.try_acquire().map_err(|error| failed(&error))?;
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "fleet");
        if let Some(from) = from {
            request = request.header("x-forwarded-for", from.to_string());
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| failed(&error))?;
        let exchange = async {
            match &self.address {
                Address::Local(path) => send(UnixStream::connect(path).await?, request).await,
                Address::Remote(place) => send(TcpStream::connect(place).await?, request).await,
            }
        };
        match timeout(wait, exchange).await {
            Ok(answer) => answer.map_err(|error| failed(&error)),
            Err(late) => Err(failed(&late)),
        }
    }
}

async fn send<S>(
    stream: S,
    request: hyper::Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // This task ends when `sender` is dropped.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_LEN_MAX);
    Ok((status, body.collect().await?.to_bytes()))
}

/// Handles `POST /v1/hello`: forwards the body unchanged and returns the answer of the process.
pub(super) async fn hello(
    State(server): State<Arc<Server>>,
    peer: Option<Extension<Peer>>,
    body: Bytes,
) -> Response {
    let Some(fleet) = &server.fleet else {
        return (StatusCode::NOT_FOUND, "this server runs without --fleet\n").into_response();
    };
    let from = peer.map(|Extension(Peer(address))| address);
    match fleet
        .ask("POST", route::HELLO, body, from, HELLO_WAIT)
        .await
    {
        Ok((status, body)) => (status, body).into_response(),
        Err(error) => {
            tracing::warn!("{error}");
            let again = [(header::RETRY_AFTER, "30")];
            (
                StatusCode::SERVICE_UNAVAILABLE,
                again,
                "the fleet process does not answer\n",
            )
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn addresses_are_sockets_or_hosts_with_a_port() {
        let local = Address::Local("/var/lib/x".into());
        assert_eq!("/var/lib/x".parse(), Ok(local));
        let remote = Address::Remote("fleet.school:8090".into());
        assert_eq!("fleet.school:8090".parse(), Ok(remote));
        for wrong in ["", "fleet", ":80", "fleet:", "fleet:http"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
