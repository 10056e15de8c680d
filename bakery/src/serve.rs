//! `bakery serve`: the store over HTTP, read-only. Paths of objects are the store's own layout, so
//! an unmodified nginx over the same directory is a server too. Requests below `/v1/` save round
//! trips and are optional (`docs/HTTP.md` specifies them). No client trusts the server: clients
//! verify every byte against the signed head.

mod answer;
mod bundle;
mod connection;
mod error;
pub(crate) mod fleet;
pub(crate) mod heads;
mod initramfs;
pub(crate) mod limits;
mod menu_client;
mod menus;
pub(crate) mod metrics;
mod news;
pub(crate) mod object;
pub(crate) mod posts;
pub(crate) mod range;
mod request_log;
mod rings;
mod routes;
mod shared_answers;
mod stream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use tokio::net::TcpListener;
use tokio::sync::watch;
use wire::manifest::{Head, Manifest, ProfileName};
use wire::paths::ObjectPath;

use crate::boots;
use crate::jobs::Spool;
use crate::netboot;
use crate::traces;
pub(crate) use error::ServeError;
use metrics::Metrics;
use object::Objects;
use posts::Posts;

/// Parameters of the server.
#[derive(Debug)]
pub(crate) struct ServeOptions {
    /// The store to serve.
    pub store: Arc<dyn ObjectStore>,
    /// The directory of the store's objects, if they are plain files: served without copying.
    pub directory: Option<PathBuf>,
    /// The spool: traces go there, jobs are read there. Without one, neither is offered.
    pub spool: Option<PathBuf>,
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Connections of one address; else its share of all ([`limits::CONNECTIONS_OF_ADDRESS`]).
    pub connections_per_address: Option<usize>,
    /// URL of this server for clients, for boot menus; by default that of their `Host` header.
    pub url: Option<String>,
    /// Seconds a boot menu waits before it starts its first entry.
    pub menu_timeout: u32,
    /// True if every machine gets the whole initramfs.
    pub whole_initramfs: bool,
    /// The address of the fleet process, if the server has one.
    pub fleet: Option<fleet::Address>,
}

/// Shared state of all request handlers.
#[derive(Debug)]
struct Server {
    objects: Objects,
    traces: Option<Posts>,
    reports: Option<Posts>,
    spool: Option<Spool>,
    metrics: Metrics,
    news: news::News,
    bundles: bundle::Bundles,
    url: Option<String>,
    menu_timeout: u32,
    fleet: Option<Arc<fleet::Fleet>>,
    /// False if every machine gets the whole initramfs.
    divides_initramfs: bool,
    initrds: initramfs::Inspections,
}

/// A server with bound sockets: it can report its addresses, then run.
#[derive(Debug)]
pub(crate) struct Bound {
    listeners: Vec<TcpListener>,
    server: Arc<Server>,
    connection_limits: connection::ConnectionLimits,
}

impl Bound {
    /// Binds every address and opens the spool.
    ///
    /// # Errors
    /// An address is taken or not ours; the spool cannot be made.
    pub(crate) async fn new(options: ServeOptions) -> Result<Self, ServeError> {
        if options.connections_max == 0 {
            let problem = "at least one connection must be allowed: give --connections 1 or more";
            return Err(ServeError::Options(problem.into()));
        }
        if options.connections_per_address == Some(0) {
            let problem = "at least one connection of each address must be allowed: give --connections-per-address 1 or more";
            return Err(ServeError::Options(problem.into()));
        }
        if let Some(url) = &options.url {
            netboot::require_url(url).map_err(ServeError::Options)?;
        }
        let mut listeners = Vec::new();
        for address in &options.listen {
            let listener = TcpListener::bind(address).await;
            listeners.push(listener.map_err(|error| {
                let advice = why_not_listening(address, &error);
                ServeError::io(advice)(error)
            })?);
        }
        let posts = |name: &str, bounds| -> Result<Option<Posts>, ServeError> {
            let Some(spool) = &options.spool else {
                return Ok(None);
            };
            let posts = Posts::open(spool.join(name), bounds);
            let doing = format!("cannot open the spool {}", spool.display());
            posts.map(Some).map_err(ServeError::io(doing))
        };
        let server = Server {
            traces: posts(traces::DIRECTORY, posts::TRACES)?,
            reports: posts(boots::DIRECTORY, posts::REPORTS)?,
            objects: Objects::new(options.store, options.directory),
            spool: options.spool.as_deref().map(Spool::open).transpose()?,
            metrics: Metrics::default(),
            news: news::News::new(options.connections_max / limits::NEWS_SHARE),
            bundles: bundle::Bundles::default(),
            url: options.url,
            menu_timeout: options.menu_timeout,
            fleet: options.fleet.map(fleet::Fleet::new).map(Arc::new),
            divides_initramfs: !options.whole_initramfs,
            initrds: initramfs::Inspections::default(),
        };
        Ok(Self {
            listeners,
            server: Arc::new(server),
            connection_limits: connection::ConnectionLimits {
                connections_max: options.connections_max,
                per_address: options.connections_per_address,
            },
        })
    }

    /// The bound addresses, with the ports that the kernel chose for 0.
    ///
    /// # Errors
    /// The kernel does not report them.
    pub(crate) fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// True if the store has no history yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn is_empty(&self) -> Result<bool, ServeError> {
        Ok(heads::profiles(&self.server.objects).await?.is_empty())
    }

    /// Serves until `stop` becomes true, then lets running answers finish for a while.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) {
        self.server.news.end_with(stop.clone());
        let app = routes::router(Arc::clone(&self.server));
        let telling = self
            .server
            .fleet
            .clone()
            .map(|fleet| tokio::spawn(fleet.keep_telling()));
        connection::accept(
            self.listeners,
            app,
            self.server,
            self.connection_limits,
            stop,
        )
        .await;
        if let Some(telling) = telling {
            telling.abort();
        }
    }
}

/// The remedy for an address on which the server cannot listen.
fn why_not_listening(address: &SocketAddr, error: &std::io::Error) -> String {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let port = address.port();
            format!("another program listens there (`ss -ltnp 'sport = :{port}'` shows it); stop it, or choose another port with --listen")
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a port above, such as --listen 0.0.0.0:8080".into()
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "no network card of this machine has that address; 0.0.0.0 listens on all".into()
        }
        _ => "choose another address with --listen".into(),
    };
    format!("cannot listen on {address}: {advice}")
}

/// Opens a store for serving, and its directory if its objects are plain files.
///
/// # Errors
/// It is not there.
pub(crate) fn open_store(
    place: &str,
) -> Result<(Arc<dyn ObjectStore>, Option<PathBuf>), ServeError> {
    let store = crate::store::Store::open(place)?;
    Ok((Arc::clone(store.objects()), store.root().map(PathBuf::from)))
}

/// The newest revision of a profile in a store; `None` if the profile does not exist, or is closed.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn newest_revision(
    store: &str,
    system: &str,
    profile: &str,
) -> Result<Option<u64>, ServeError> {
    let (store, directory) = open_store(store)?;
    let objects = Objects::new(store, directory);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeError::io("cannot start a runtime"))?;
    let Ok(name) = ProfileName::new(system, profile) else {
        return Ok(None);
    };
    let removed = ObjectPath::Removed(name.clone()).to_string();
    match runtime.block_on(objects.read(&removed)) {
        Ok(_) => return Ok(None),
        Err(object::ObjectError::Missing) => {}
        Err(error) => return Err(error.into()),
    }
    match runtime.block_on(heads::newest(&objects, &name)) {
        Ok(revision) => Ok(Some(revision)),
        Err(object::ObjectError::Missing) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Every profile's newest revision, its head and its manifest.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn states(store: &str) -> Result<Vec<(heads::Profile, Head, Manifest)>, ServeError> {
    let (store, directory) = open_store(store)?;
    let objects = Objects::new(store, directory);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeError::io("cannot start a runtime"))?;
    runtime.block_on(async {
        let mut states = Vec::new();
        for profile in heads::profiles(&objects).await? {
            let (head, manifest) = heads::records(&objects, &profile).await?;
            states.push((profile, head, manifest));
        }
        Ok(states)
    })
}
