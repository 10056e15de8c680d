//! Waits for a new revision: a bakery holds the answer to a request until there is one.
//!
//! The request is not sent by the mount: a process that waits for a mount prevents the machine from
//! suspending. The answer is only a hint; the mount verifies the records of the revision.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::manifest::RevisionName;
use wire::paths::Request;

use crate::commands::status;
use crate::limits::HINT_LEN_MAX;
use crate::net::address::ServerName;
use crate::net::error::FetchError;
use crate::net::exchange::Ask;
use crate::net::server::Server;
use crate::net::status::Counters;

/// Longest wait in one request: what is between may end silent connections after a minute.
const REQUEST_MAX: Duration = Duration::from_secs(50);
/// Time for the answer after the end of the wait.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Shortest wait for which a request is sent.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// A new revision is taken after a delay of up to this, so that not all machines of a room begin at
/// the same moment.
const SPREAD_MS: u64 = 1000;

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The revision that a server named.
    told: Option<u64>,
}

/// What to ask, and where.
struct NewsPlace {
    servers: Vec<ServerName>,
    name: RevisionName,
    ring: String,
}

impl News {
    /// Waits for `time`, or until a server of the mount has another revision than `newest` and than it
    /// said last.
    pub(super) fn wait(&mut self, mount: &Path, newest: Option<&str>, time: Duration) {
        let until = Instant::now() + time;
        let left = || until.saturating_duration_since(Instant::now());
        let place = newest.and_then(|newest| place(mount, newest));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        if let (Some(place), Ok(runtime)) = (place, runtime) {
            let seen = place.name.revision;
            while left() >= WAIT_MIN {
                let (asked, wait) = (Instant::now(), left().min(REQUEST_MAX));
                let after = self.told.or(seen).unwrap_or_default();
                let Some(told) = runtime.block_on(ask_all(&place, after, wait)) else {
                    break;
                };
                self.told = Some(told);
                if told != after {
                    // A server that is behind the mount has nothing new.
                    if Some(told) != seen {
                        std::thread::sleep(spread());
                        return;
                    }
                    continue;
                }
                // It does not wait.
                if asked.elapsed() + WAIT_MIN < wait {
                    break;
                }
            }
        }
        std::thread::sleep(left());
    }
}

/// A delay that differs between machines and from time to time.
fn spread() -> Duration {
    let seed = format!("{}{:?}", crate::hardware::boot_id(), Instant::now());
    let [byte, ..] = *blake3::hash(seed.as_bytes()).as_bytes();
    Duration::from_millis(SPREAD_MS * u64::from(byte) / 255)
}

/// The servers of the mount; `None` if its status cannot be read.
fn place(mount: &Path, newest: &str) -> Option<NewsPlace> {
    let source = status::read(mount).ok()?.source?;
    let mirrors = source.get("mirrors")?.as_array()?;
    let urls = mirrors.iter().filter_map(|one| one.get("server")?.as_str());
    Some(NewsPlace {
        servers: urls.filter_map(|url| ServerName::parse(url).ok()).collect(),
        name: newest.parse().ok()?,
        ring: source.get("ring")?.as_str()?.to_owned(),
    })
}

/// Asks the servers in turn; `None` if none of them knows the request.
async fn ask_all(place: &NewsPlace, after: u64, wait: Duration) -> Option<u64> {
    for server in &place.servers {
        if let Ok(number) = ask(server, place, after, wait).await {
            return Some(number);
        }
    }
    None
}

async fn ask(
    server: &ServerName,
    place: &NewsPlace,
    after: u64,
    wait: Duration,
) -> Result<u64, FetchError> {
    let server = Server::new(server.clone(), Arc::new(Counters::default()));
    server.look_up(ANSWER_MAX).await?;
    let path = format!(
        "{}?ring={}&after={after}&wait={}",
        Request::Newest(place.name.name.clone()),
        place.ring,
        wait.as_secs()
    );
    let mut answer = server.ask_h1(&Ask::get(path, wait + ANSWER_MAX)).await?;
    answer.check_status()?;
    let text = answer.collect(HINT_LEN_MAX).await?;
    let number = std::str::from_utf8(&text).ok();
    let number = number.and_then(|text| text.trim().parse().ok());
    number.ok_or(FetchError::Wrong("the newest revision is not a number"))
}
