//! An origin that is a server over HTTP/1.1.

use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use wire::manifest::ProfileName;
use wire::paths::{ObjectPath, route};

use super::pace::Pace;
use super::{MirrorError, MirrorOrigin, Result};
use crate::limits;

/// Time without data after which a request is repeated.
const STALL: Duration = Duration::from_secs(60);
/// Tries in a row without a byte.
const TRIES_MAX: u32 = 8;
/// Longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Port of http.
const PORT: u16 = 80;

/// A server.
pub(crate) struct Http {
    /// `HOST:PORT`, and the path before the names of objects.
    place: String,
    prefix: String,
    runtime: Runtime,
    connection: Option<Connection>,
    pace: Pace,
    received: u64,
}

/// The reason for repeating a request, or for not repeating it.
enum Fault {
    Again(String),
    Final(Box<MirrorError>),
    /// The window of the day has ended.
    Closed,
}

#[derive(serde::Deserialize)]
struct System {
    system: String,
    profile: String,
}

impl Http {
    /// A server by its URL.
    ///
    /// # Errors
    /// The URL is not `http://HOST[:PORT][/PREFIX]`.
    pub(crate) fn new(url: &str, pace: Pace) -> Result<Http> {
        let wrong = |what: String| MirrorError::Origin {
            origin: url.to_owned(),
            what,
        };
        let rest = url.strip_prefix("http://").ok_or_else(|| {
            wrong("not a URL of a server: write http://HOST[:PORT][/PREFIX]; no TLS is needed, since every byte is verified".into())
        })?;
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() {
            return Err(wrong("the URL names no host".into()));
        }
        let is_ported = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let place = if is_ported {
            host.to_owned()
        } else {
            format!("{host}:{PORT}")
        };
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() {
            String::new()
        } else {
            format!("/{prefix}")
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Http {
            place,
            prefix,
            runtime,
            connection: None,
            pace,
            received: 0,
        })
    }

    /// Bytes of bodies received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    fn failed(&self, what: impl Into<String>) -> MirrorError {
        MirrorError::Origin {
            origin: self.name(),
            what: what.into(),
        }
    }

    fn fatal(&self, what: String) -> Box<MirrorError> {
        Box::new(self.failed(what))
    }

    /// Sends a request; returns the head of the answer.
    fn ask(
        &mut self,
        path: &str,
        range: Option<&Range<u64>>,
    ) -> std::result::Result<Response<Incoming>, Fault> {
        let mut request = Request::builder()
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, &self.place);
        if let Some(range) = range {
            let range = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            request = request.header(header::RANGE, range);
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| Fault::Final(self.fatal(error.to_string())))?;
        let (place, known) = (&self.place, self.connection.take());
        let exchange = async {
            let mut usable = None;
            if let Some(mut known) = known
                && known.ready().await.is_ok()
            {
                usable = Some(known);
            }
            let mut connection = match usable {
                Some(usable) => usable,
                None => connect(place).await?,
            };
            let answer = connection.send_request(request).await?;
            Ok::<_, Box<dyn std::error::Error>>((connection, answer))
        };
        let answer = self
            .runtime
            .block_on(async { timeout(STALL, exchange).await });
        match answer {
            Ok(Ok((connection, answer))) => {
                self.connection = Some(connection);
                Ok(answer)
            }
            Ok(Err(error)) => Err(Fault::Again(error.to_string())),
            Err(_) => Err(Fault::Again("the server does not answer".into())),
        }
    }

    /// Gives the body to `sink`, which may end it by an error.
    fn body(
        &mut self,
        answer: Response<Incoming>,
        sink: &mut dyn FnMut(&[u8]) -> std::result::Result<(), Fault>,
    ) -> std::result::Result<(), Fault> {
        let mut body = answer.into_body();
        loop {
            let frame = self
                .runtime
                .block_on(async { timeout(STALL, body.frame()).await });
            let frame = match frame {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => return Err(Fault::Again(error.to_string())),
                Err(_) => return Err(Fault::Again("the server sends nothing".into())),
            };
            let Some(data) = frame.data_ref() else {
                continue;
            };
            self.received += data.len() as u64;
            sink(data)?;
            self.pace.pay(data.len());
            if !self.pace.is_open() {
                return Err(Fault::Closed);
            }
        }
    }

    /// Repeats `exchange` until it succeeds or fails for good. Its last argument tells if bytes have arrived.
    fn retry<T>(
        &mut self,
        mut exchange: impl FnMut(&mut Http, &mut bool) -> std::result::Result<T, Fault>,
    ) -> Result<T> {
        let mut tries = 0u32;
        loop {
            self.pace.wait();
            let mut came = false;
            let fault = match exchange(self, &mut came) {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            self.connection = None;
            match fault {
                Fault::Closed => continue,
                Fault::Final(error) => return Err(*error),
                Fault::Again(what) => {
                    tracing::info!(server = self.place, what, "asked again");
                    if came {
                        tries = 0;
                        continue;
                    }
                    tries += 1;
                    if tries >= TRIES_MAX {
                        return Err(self.failed(what));
                    }
                    let wait = Duration::from_millis(250) * 2u32.pow(tries.min(10));
                    std::thread::sleep(wait.min(WAIT_MAX));
                }
            }
        }
    }

    /// A whole small answer; `None` for 404.
    fn small(&mut self, path: &str, len_max: usize) -> Result<Option<Vec<u8>>> {
        self.retry(|http, _| {
            let answer = http.ask(path, None)?;
            let found = http.require(path, &answer, StatusCode::OK)?;
            let len_max = match found {
                true => len_max,
                false => limits::MIRROR_MISSING_LEN_MAX,
            };
            let bytes = http.whole(path, answer, len_max)?;
            Ok(found.then_some(bytes))
        })
    }

    /// The body of a small answer.
    fn whole(
        &mut self,
        path: &str,
        answer: Response<Incoming>,
        len_max: usize,
    ) -> std::result::Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        let origin = self.name();
        self.body(answer, &mut |part| {
            if bytes.len() + part.len() > len_max {
                let (origin, what) = (origin.clone(), format!("{path}: the answer is too long"));
                return Err(Fault::Final(Box::new(MirrorError::Origin { origin, what })));
            }
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// False for 404; an error for any other status than the wanted one.
    fn require(
        &self,
        path: &str,
        answer: &Response<Incoming>,
        wanted: StatusCode,
    ) -> std::result::Result<bool, Fault> {
        match answer.status() {
            status if status == wanted => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Fault::Again(format!("{path}: {status}")))
            }
            status => Err(Fault::Final(self.fatal(format!("{path}: {status}")))),
        }
    }
}

type Connection = SendRequest<Empty<Bytes>>;

async fn connect(place: &str) -> std::result::Result<Connection, Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(place).await?;
    let _ = stream.set_nodelay(true);
    let (mut connection, driver) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    connection.ready().await?;
    Ok(connection)
}

impl MirrorOrigin for Http {
    fn name(&self) -> String {
        format!("http://{}{}", self.place, self.prefix)
    }

    fn profiles(&mut self) -> Result<Option<Vec<ProfileName>>> {
        let Some(list) = self.small(route::SYSTEMS, limits::MIRROR_SYSTEMS_LEN_MAX)? else {
            return Ok(None);
        };
        let systems: Vec<System> = serde_json::from_slice(&list)
            .map_err(|error| self.failed(format!("{}: {error}", route::SYSTEMS)))?;
        let names = systems
            .iter()
            .map(|it| ProfileName::new(&it.system, &it.profile));
        Ok(Some(names.collect::<std::result::Result<_, _>>()?))
    }

    fn read(&mut self, path: &ObjectPath, len_max: usize) -> Result<Option<Vec<u8>>> {
        self.small(&path.url(), len_max)
    }

    fn range(
        &mut self,
        path: &ObjectPath,
        range: Range<u64>,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<bool> {
        let url = path.url();
        let mut rest = range;
        self.retry(|http, came| {
            if rest.is_empty() {
                return Ok(true);
            }
            let answer = http.ask(&url, Some(&rest))?;
            if !http.require(&url, &answer, StatusCode::PARTIAL_CONTENT)? {
                // The rest of the answer is not read.
                http.connection = None;
                return Ok(false);
            }
            let begins = format!("bytes {}-", rest.start);
            let content = answer.headers().get(header::CONTENT_RANGE);
            let is_ours = content
                .and_then(|content| content.to_str().ok())
                .is_some_and(|content| content.starts_with(&begins));
            if !is_ours {
                return Err(Fault::Final(http.fatal(format!("{url}: another range"))));
            }
            let name = http.name();
            http.body(answer, &mut |part| {
                *came = true;
                let failed = |what: String| {
                    Fault::Final(Box::new(MirrorError::Origin {
                        origin: name.clone(),
                        what: format!("{url}: {what}"),
                    }))
                };
                let len = part.len() as u64;
                if len > rest.end - rest.start {
                    return Err(failed("more bytes than requested".into()));
                }
                sink(part).map_err(|error| failed(error.to_string()))?;
                rest.start += len;
                Ok(())
            })?;
            if rest.is_empty() {
                Ok(true)
            } else {
                Err(Fault::Again(format!("{url}: the answer ends early")))
            }
        })
    }

    fn len(&mut self, path: &ObjectPath) -> Result<Option<u64>> {
        let url = path.url();
        self.retry(|http, _| {
            // The answer to a range request has the length, also from servers that do not answer HEAD.
            let answer = http.ask(&url, Some(&(0..1)))?;
            let found = http.require(&url, &answer, StatusCode::PARTIAL_CONTENT)?;
            let content = answer.headers().get(header::CONTENT_RANGE);
            let len = content.and_then(|content| content.to_str().ok()?.rsplit('/').next());
            let len = len.and_then(|len| len.parse().ok());
            http.whole(&url, answer, limits::MIRROR_MISSING_LEN_MAX)?;
            match len {
                _ if !found => Ok(None),
                Some(len) => Ok(Some(len)),
                None => Err(Fault::Final(http.fatal(format!("{url}: no length")))),
            }
        })
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("place", &self.place).finish()
    }
}
