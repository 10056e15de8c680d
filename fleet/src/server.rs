//! The HTTP routes of the fleet, and their sockets.
//!
//! Only `bakery serve`, or another proxy of the site, sends requests to them. The header
//! `x-forwarded-for` names the machine's address.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use wire::hello::{HELLO_LEN_MAX, Hello, Step};
use wire::manifest::RevisionName;
use wire::paths::route;
use wire::proof::{Proofs, RoomToken};

use crate::limit::Limit;
use crate::messages::{FetchedNote, MenuAnswer, MenuQuestion, SERVING};
use crate::metrics::Counters;
use crate::record::Return;
use crate::store::{self, Census, Database, FleetMessage, Proof};
use crate::writer::{Writer, now};

/// Interval of the heartbeats in the database.
const BEAT: Duration = Duration::from_secs(20);
/// Time without a message of a server after which there is an outage.
const SERVING_LATE: Duration = Duration::from_secs(60);
/// Longest run time of the hook.
const HOOK_MAX: Duration = Duration::from_secs(60);
/// Time for which the metrics page reuses one count of the machines.
const CENSUS_LASTS: Duration = Duration::from_secs(10);

/// Options of the process.
#[derive(Debug, Clone)]
pub struct Options {
    /// The spool with the database.
    pub spool: PathBuf,
    /// A TCP address to listen on in addition to the socket, for servers on other machines.
    pub listen: Option<std::net::SocketAddr>,
    /// Days after which the process deletes boots.
    pub keep_days: u32,
    /// Requests that one address may send at once.
    pub burst: u32,
    /// Requests that it may send each second after that.
    pub per_second: u32,
    /// Failed boots after which a machine returns to its last good revision; 0: never.
    pub return_after: u32,
    /// The program that runs at each return.
    pub hook: Option<PathBuf>,
    /// The room's token; with one, hellos without proof are refused.
    pub token: Option<RoomToken>,
}

/// The shared state of the routes.
struct Fleet {
    writer: Writer,
    limit: Limit,
    counters: Arc<Counters>,
    spool: PathBuf,
    hook: Option<PathBuf>,
    token: Option<RoomToken>,
    census: Mutex<Option<(Instant, Census)>>,
    /// Time of the last message of a server that sends them.
    served: Mutex<Option<Instant>>,
}

type Shared = State<Arc<Fleet>>;

/// Opens the database and the sockets, and answers until `stop` becomes true. Calls `ready` once
/// both sockets are open.
///
/// # Errors
/// The database cannot be opened, or a socket is taken.
pub async fn run(
    options: Options,
    mut stop: watch::Receiver<bool>,
    ready: impl FnOnce(),
) -> Result<(), ServerError> {
    let counters = Arc::new(Counters::default());
    let (writer, watch) = start_writer(&options, &counters).await?;
    let socket = store::socket(&options.spool);
    let local = listen_locally(&socket)?;
    let fleet = Arc::new(Fleet {
        writer,
        limit: Limit::new(options.burst, options.per_second),
        counters,
        spool: options.spool,
        hook: options.hook,
        token: options.token,
        census: Mutex::default(),
        served: Mutex::default(),
    });
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(beat(Arc::clone(&fleet), watch));
    let app = router(fleet);
    serving.spawn(axum::serve(local, app.clone()).into_future());
    if let Some(address) = options.listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ServerError::Listen {
            place: address.to_string(),
            source,
        })?;
        serving.spawn(axum::serve(listener, app).into_future());
    }
    ready();
    // Every acknowledged hello is on the disk, so the process can stop at once.
    let _ = stop.wait_for(|stop| *stop).await;
    serving.shutdown().await;
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// Opens the database, on a thread that may wait for it, and starts the writer.
async fn start_writer(
    options: &Options,
    counters: &Arc<Counters>,
) -> Result<(Writer, i64), ServerError> {
    let (options, counters) = (options.clone(), Arc::clone(counters));
    let no_thread = |source| ServerError::Listen {
        place: "a thread".into(),
        source,
    };
    let started = tokio::task::spawn_blocking(move || {
        let database = Database::create(&options.spool)?
            .with_return_after(options.return_after)
            .with_token(options.token.is_some());
        let watch = database.begin_watch(now())?;
        let writer = Writer::start(database, options.keep_days, counters);
        Ok((writer.map_err(no_thread)?, watch))
    });
    started
        .await
        .unwrap_or_else(|error| Err(no_thread(std::io::Error::other(error))))
}

/// Records that the process runs and a server reaches it. After a failed heartbeat, or an outage of
/// all servers, the boots of this time do not count.
async fn beat(fleet: Arc<Fleet>, mut watch: i64) -> std::io::Result<()> {
    loop {
        if fleet.is_reached() {
            let _ = fleet.writer.hear(FleetMessage::Beat { watch }).await;
        } else {
            // The next heartbeat begins another watch, so the time between counts as unwatched.
            while !fleet.is_reached() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let spool = fleet.spool.clone();
            let begun =
                tokio::task::spawn_blocking(move || Database::open(&spool)?.begin_watch(now()));
            match begun.await {
                Ok(Ok(begun)) => watch = begun,
                Ok(Err(error)) => tracing::error!("{error}: the boots of this time do not count"),
                Err(_) => {}
            }
        }
        tokio::time::sleep(BEAT).await;
    }
}

impl Fleet {
    /// True if a server sent a message a short time ago, or no server ever sent one: servers of
    /// older versions do not.
    fn is_reached(&self) -> bool {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.is_none_or(|at| at.elapsed() < SERVING_LATE)
    }
}

/// Handles the message of a running server.
async fn serving(State(fleet): Shared) -> StatusCode {
    let mut served = fleet.served.lock().unwrap_or_else(PoisonError::into_inner);
    *served = Some(Instant::now());
    StatusCode::NO_CONTENT
}

/// Errors at the start of the process.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The database fails.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// A socket cannot be opened.
    #[error("cannot listen on {place}: {source}")]
    Listen {
        /// The address or path.
        place: String,
        /// The cause of the failure.
        source: std::io::Error,
    },
    /// Another process listens on the socket.
    #[error("another `bakery fleet` listens on {0}: stop it first")]
    Running(PathBuf),
}

/// Listens on the socket in the spool; replaces the socket of a dead process.
fn listen_locally(socket: &Path) -> Result<UnixListener, ServerError> {
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        return Err(ServerError::Running(socket.to_owned()));
    }
    let _ = std::fs::remove_file(socket);
    let failed = |source| ServerError::Listen {
        place: socket.display().to_string(),
        source,
    };
    let listener = UnixListener::bind(socket).map_err(failed)?;
    let owner_and_group = std::fs::Permissions::from_mode(0o660);
    std::fs::set_permissions(socket, owner_and_group).map_err(failed)?;
    Ok(listener)
}

fn router(fleet: Arc<Fleet>) -> Router {
    Router::new()
        .route(route::HELLO, post(hello))
        .route("/menu", post(menu))
        .route("/fetched", post(fetched))
        .route(SERVING, post(serving))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(HELLO_LEN_MAX))
        .with_state(fleet)
}

/// The address in `x-forwarded-for`. All requests without one share one allowance.
fn address(asked: &HeaderMap) -> String {
    let named = asked
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok());
    let last = named
        .and_then(|value| value.rsplit(',').next())
        .unwrap_or("-");
    last.trim().chars().take(64).collect()
}

/// Handles a hello; answers 204 after the hello is on the disk.
async fn hello(State(fleet): Shared, asked: HeaderMap, body: Bytes) -> Response {
    let from = address(&asked);
    if !fleet.limit.admits(&from, Instant::now()) {
        fleet.counters.limited();
        return (
            StatusCode::TOO_MANY_REQUESTS,
            "too many hellos from this address\n",
        )
            .into_response();
    }
    let hello = match Hello::decode(&body) {
        Ok(hello) => hello,
        Err(error) => {
            fleet.counters.refused();
            return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
        }
    };
    let step = hello.step;
    let proofs = Proofs::of(&body);
    let proof = Proof {
        menu: false,
        token: fleet.token.as_ref().is_some_and(|token| proofs.has(token)),
        signed: hello.key.is_some_and(|key| proofs.is_signed_by(&key)),
    };
    let hello = Box::new(hello);
    let heard = FleetMessage::Hello { hello, from, proof };
    match fleet.writer.hear(heard).await {
        Ok(known) if known.refused => {
            fleet.counters.unproved();
            let why = "the hello has neither the room's token nor the signature of the accepted key, or it is a repeated one\n";
            (StatusCode::FORBIDDEN, why).into_response()
        }
        Ok(_) => {
            fleet.counters.heard(step);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(busy) => busy_answer(&busy.to_string()),
    }
}

/// Answers a request for the assignment of a machine.
async fn menu(State(fleet): Shared, asked: HeaderMap, body: Bytes) -> Response {
    let from = address(&asked);
    let Ok(MenuQuestion { machine }) = serde_json::from_slice(&body) else {
        fleet.counters.refused();
        return (StatusCode::BAD_REQUEST, "not a menu request\n").into_response();
    };
    if !fleet.limit.admits(&from, Instant::now()) {
        fleet.counters.limited();
        return (
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests from this address\n",
        )
            .into_response();
    }
    if !machine.names_a_machine() {
        return axum::Json(MenuAnswer::default()).into_response();
    }
    let hello = Box::new(Hello::new(machine, Step::Menu));
    let proof = Proof {
        menu: true,
        ..Proof::default()
    };
    let heard = FleetMessage::Hello { hello, from, proof };
    match fleet.writer.hear(heard).await {
        Ok(known) => {
            fleet.counters.heard(Step::Menu);
            if let Some(returned) = known.returned.as_ref().filter(|_| known.returns_now) {
                tell_hook(&fleet, &known.machine, returned);
            }
            axum::Json(MenuAnswer {
                machine: known.machine,
                assignment: known.assignment,
                returned: known.returned,
                layer: known.layer,
                card: known.card,
            })
            .into_response()
        }
        Err(busy) => busy_answer(&busy.to_string()),
    }
}

/// Runs the hook in the background: `HOOK returned MACHINE FROM TO`.
fn tell_hook(fleet: &Fleet, machine: &str, returned: &Return) {
    let Some(hook) = &fleet.hook else { return };
    let mut command = tokio::process::Command::new(hook);
    command
        .args(["returned", machine, &returned.from, &returned.to])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let name = hook.display().to_string();
    tokio::spawn(async move {
        match tokio::time::timeout(HOOK_MAX, command.status()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => tracing::warn!("the hook {name} failed: {status}"),
            Ok(Err(error)) => tracing::warn!("the hook {name} cannot be run: {error}"),
            Err(_) => tracing::warn!("killed the hook {name} after a minute"),
        }
    });
}

/// Records that a machine fetched a file of its menu.
async fn fetched(State(fleet): Shared, asked: HeaderMap, body: Bytes) -> Response {
    let Ok(FetchedNote {
        machine,
        step,
        revision,
    }) = serde_json::from_slice(&body)
    else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let sound = revision.is_empty() || revision.parse::<RevisionName>().is_ok();
    if !matches!(step, Step::Kernel | Step::Initramfs) || !sound {
        return StatusCode::BAD_REQUEST.into_response();
    }
    if !fleet.limit.admits(&address(&asked), Instant::now()) {
        fleet.counters.limited();
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    let heard = FleetMessage::Fetched {
        machine,
        step,
        revision,
    };
    match fleet.writer.hear(heard).await {
        Ok(_) => {
            fleet.counters.heard(step);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(busy) => busy_answer(&busy.to_string()),
    }
}

fn busy_answer(why: &str) -> Response {
    let again = [(header::RETRY_AFTER, "5")];
    (StatusCode::SERVICE_UNAVAILABLE, again, format!("{why}\n")).into_response()
}

async fn metrics(State(fleet): Shared) -> Response {
    let counted = tokio::task::spawn_blocking(move || {
        let mut last = fleet.census.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = last.as_ref().filter(|(at, _)| at.elapsed() < CENSUS_LASTS);
        if fresh.is_none() {
            let census = Database::open(&fleet.spool).and_then(|store| store.census(now()))?;
            *last = Some((Instant::now(), census));
        }
        let census = last.as_ref().map(|(_, census)| census.clone());
        Ok::<_, store::StoreError>(fleet.counters.render(&census.unwrap_or_default()))
    });
    match counted.await {
        Ok(Ok(page)) => page.into_response(),
        Ok(Err(error)) => busy_answer(&error.to_string()),
        Err(_) => busy_answer("counting failed"),
    }
}
