//! One request and its answer, over HTTP/1.1 or HTTP/2 without TLS.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::error::FetchError;
use super::pace::Pace;
use super::range;

/// Longest wait for a connection.
pub(crate) const CONNECT_WAIT: Duration = Duration::from_secs(4);
/// Maximum time without data for requests without a waiting reader.
pub(crate) const STALL_PATIENT: Duration = Duration::from_secs(20);
/// HTTP/2 windows: enough for 1 Gbit/s × 50 ms per connection.
const H2_STREAM_WINDOW: u32 = 2 << 20;
const H2_CONNECTION_WINDOW: u32 = 8 << 20;

/// Bytes read from the socket at once: few enough to reuse memory.
const READ_LEN_MAX: usize = 96 << 10;

pub(crate) type H1 = http1::SendRequest<Full<Bytes>>;
pub(crate) type H2 = http2::SendRequest<Full<Bytes>>;

/// A request: a path below the server's prefix, optionally with a range or a body.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The path is absolute on the server, not below the prefix: a redirect gave it.
    pub(crate) is_absolute: bool,
    pub(crate) range: Option<Range<u64>>,
    pub(crate) body: Bytes,
    /// Maximum time without data.
    pub(crate) stall: Duration,
}

impl Ask {
    pub(crate) fn get(path: impl Into<String>, stall: Duration) -> Ask {
        Ask {
            method: Method::GET,
            path: path.into(),
            is_absolute: false,
            range: None,
            body: Bytes::new(),
            stall,
        }
    }

    pub(crate) fn range(path: impl Into<String>, range: Range<u64>, stall: Duration) -> Ask {
        Ask {
            range: Some(range),
            ..Ask::get(path, stall)
        }
    }

    pub(crate) fn post(path: impl Into<String>, body: Bytes, stall: Duration) -> Ask {
        Ask {
            method: Method::POST,
            body,
            ..Ask::get(path, stall)
        }
    }

    pub(crate) fn request(
        &self,
        authority: &str,
        prefix: &str,
        version: hyper::Version,
    ) -> Result<Request<Full<Bytes>>, FetchError> {
        let prefix = if self.is_absolute { "" } else { prefix };
        let uri = if version == hyper::Version::HTTP_2 {
            format!("http://{authority}{prefix}{}", self.path)
        } else {
            format!("{prefix}{}", self.path)
        };
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(uri)
            .header(
                header::USER_AGENT,
                concat!("layerfs/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::ACCEPT_ENCODING, "identity");
        if version != hyper::Version::HTTP_2 {
            request = request.header(header::HOST, authority);
        }
        if let Some(range) = &self.range {
            request = request.header(header::RANGE, range::header(range));
        }
        request
            .body(Full::new(self.body.clone()))
            .map_err(|_| FetchError::Wrong("a path that is no URL"))
    }
}

/// Opens a connection to the first address that accepts.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    let mut failed = std::io::Error::other("the server has no address");
    for address in addresses {
        match tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(FetchError::Connect)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(FetchError::Connect(failed))
}

/// Runs a connection until it ends, concurrently with the requests that use it.
fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "connection ended");
        }
    });
}

/// Speaks HTTP/1.1 on `stream`. The connection ends when the sender and the answers are dropped.
pub(crate) async fn speak_h1(stream: TcpStream) -> Result<H1, FetchError> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(READ_LEN_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(FetchError::Broken)?;
    drive(connection);
    Ok(sender)
}

/// Speaks HTTP/2 with prior knowledge on `stream`.
pub(crate) async fn speak_h2(stream: TcpStream) -> Result<H2, FetchError> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(FetchError::Broken)?;
    drive(connection);
    Ok(sender)
}

/// An answer whose body is read chunk by chunk.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    response: Response<Incoming>,
    stall: Duration,
    pace: Pace,
    /// The h1 connection, to be used again once the body is read to its end.
    pub(crate) connection: Option<H1>,
}

impl HttpAnswer {
    pub(crate) fn new(
        response: Response<Incoming>,
        stall: Duration,
        connection: Option<H1>,
    ) -> Self {
        HttpAnswer {
            response,
            stall,
            pace: Pace::default(),
            connection,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Length of the body, if the server sent it.
    pub(crate) fn len(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }

    /// An error for every status but 200 and 206.
    pub(crate) fn check_status(&self) -> Result<(), FetchError> {
        match self.status().as_u16() {
            200 | 206 => Ok(()),
            status => Err(FetchError::Status {
                status,
                retry_after: self
                    .header(header::RETRY_AFTER)
                    .and_then(|seconds| seconds.trim().parse().ok())
                    .map(Duration::from_secs),
            }),
        }
    }

    /// Checks that the answer is exactly `range`: status, place and length.
    pub(crate) fn check_range(&self, range: &Range<u64>) -> Result<(), FetchError> {
        self.check_status()?;
        if self.status() == StatusCode::PARTIAL_CONTENT {
            let given = self
                .header(header::CONTENT_RANGE)
                .and_then(range::parse_content_range);
            if given.as_ref() != Some(range) {
                return Err(FetchError::Wrong("a different range than requested"));
            }
            let len = range.end.saturating_sub(range.start);
            return match self.len() {
                Some(given) if given != len => {
                    Err(FetchError::Wrong("the length differs from the request"))
                }
                _ => Ok(()),
            };
        }
        // 200: the server does not support ranges. Usable if the object begins with the requested
        // range.
        match (range.start, self.len()) {
            (0, None) => Ok(()),
            (0, Some(len)) if len >= range.end => Ok(()),
            (0, Some(_)) => Err(FetchError::Wrong("the length differs from the request")),
            _ => Err(FetchError::Wrong("the whole object instead of a range")),
        }
    }

    /// Checks that the answer begins at `range` and does not go beyond it: the object may be shorter. Returns
    /// where the answer ends in the object; `None`: the server does not support ranges, and the answer is the
    /// whole object.
    pub(crate) fn check_start(&self, range: &Range<u64>) -> Result<Option<u64>, FetchError> {
        self.check_status()?;
        if self.status() != StatusCode::PARTIAL_CONTENT {
            return match range.start {
                0 => Ok(None),
                _ => Err(FetchError::Wrong("the whole object instead of a range")),
            };
        }
        let given = self
            .header(header::CONTENT_RANGE)
            .and_then(range::parse_content_range);
        match given {
            Some(given) if given.start == range.start && given.end <= range.end => {
                Ok(Some(given.end))
            }
            _ => Err(FetchError::Wrong("a different range than requested")),
        }
    }

    /// The next bytes of the body, `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let mut waited = Duration::ZERO;
        loop {
            let asked = Instant::now();
            let frame = tokio::time::timeout(self.stall, self.response.body_mut().frame())
                .await
                .map_err(|_| FetchError::Timeout {
                    what: "more of the body",
                    waited: self.stall,
                })?;
            waited += asked.elapsed();
            let Some(frame) = frame else { return Ok(None) };
            let Ok(bytes) = frame.map_err(FetchError::Broken)?.into_data() else {
                continue;
            };
            if bytes.is_empty() {
                continue;
            }
            self.pace.came(bytes.len() as u64, waited)?;
            return Ok(Some(bytes));
        }
    }

    /// The whole body, if it is at most `len_max` bytes long.
    pub(crate) async fn collect(&mut self, len_max: usize) -> Result<Vec<u8>, FetchError> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await? {
            if whole.len() + bytes.len() > len_max {
                return Err(FetchError::TooLong(len_max));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }
}
