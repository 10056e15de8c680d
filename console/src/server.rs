//! Routes, listener and TLS.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;

use crate::accounts::Role;
use crate::options::ConsoleOptions;
use crate::pages::{
    accounts, audit, compare, entrance, import, jobs, keys, machines, menu, overview, publish,
    revision, rings, store, system, tasks,
};
use crate::problem::Problem;
use crate::state::App;
use crate::web::{asset, guard};

/// Time between two snapshots while a person uses the console.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time for the header of a request to arrive.
const HEADER_TIME_MAX: Duration = Duration::from_secs(20);
/// Time for open answers at the end.
const END: Duration = Duration::from_secs(5);

/// Runs the program.
#[must_use]
pub fn main(options: ConsoleOptions) -> ExitCode {
    if let Some(code) = crate::options::print(&options) {
        return code;
    }
    let level = match (options.globals.quiet, options.globals.verbose) {
        (true, _) => tracing::Level::ERROR,
        (false, 0) => tracing::Level::INFO,
        (false, _) => tracing::Level::DEBUG,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr);
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    log.without_time().with_target(false).with_ansi(ansi).init();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: ConsoleOptions) -> Result<(), String> {
    options.check()?;
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let listener = TcpListener::bind(options.listen)
        .map_err(|error| failed(&format!("cannot listen on {}", options.listen), &error))?;
    let bound = listener
        .local_addr()
        .map_err(|error| failed("cannot listen", &error))?;
    listener
        .set_nonblocking(true)
        .map_err(|error| failed("cannot listen", &error))?;
    let url = options.url(bound);
    let app = Arc::new(App::open(options, url)?);
    app.history().map_err(|problem| problem.text)?;
    tracing::info!("the console is at {}/", app.url);
    invite_first(&app)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| failed("cannot start threads", &error))?;
    runtime.block_on(serve(app, listener))
}

/// Prints the link that makes the first account, if the console has none.
fn invite_first(app: &App) -> Result<(), String> {
    if !app.accounts.is_empty() {
        return Ok(());
    }
    let token = app
        .accounts
        .invite("", Role::Admin)
        .map_err(|error| error.to_string())?;
    let line = format!(
        "There is no account yet. Open this link once, within 24 hours:\n\n    {}/welcome/{token}\n\n",
        app.url
    );
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes())
        .map_err(|error| error.to_string())
}

async fn serve(app: Arc<App>, listener: TcpListener) -> Result<(), String> {
    tokio::spawn(look(Arc::clone(&app)));
    let handle = Handle::new();
    tokio::spawn(end_on_signal(handle.clone()));
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let tls = match (&app.options.tls_cert, &app.options.tls_key) {
        (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
        _ => None,
    };
    let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
    let served = match tls {
        None => {
            let server = axum_server::from_tcp(listener).map_err(|error| error.to_string())?;
            let mut server = server.handle(handle);
            bound(server.http_builder());
            server.serve(service).await
        }
        Some((cert, key)) => {
            let config = RustlsConfig::from_pem_file(&cert, &key).await;
            let config = config.map_err(|error| {
                format!(
                    "cannot use {} and {}: {error}",
                    cert.display(),
                    key.display()
                )
            })?;
            let server = axum_server::from_tcp_rustls(listener, config)
                .map_err(|error| error.to_string())?;
            let mut server = server.handle(handle);
            bound(server.http_builder());
            server.serve(service).await
        }
    };
    served.map_err(|error| error.to_string())
}

/// Closes a connection that sends no request.
fn bound(connections: &mut Builder<TokioExecutor>) {
    let mut http1 = connections.http1();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX);
}

/// Makes snapshots while a person uses the console, so that nobody waits for one.
async fn look(app: Arc<App>) {
    let mut is_first = true;
    loop {
        // The first snapshot reads every history once, before the first request.
        if std::mem::take(&mut is_first) || app.snapshots.are_watched() {
            let app = Arc::clone(&app);
            let looked = tokio::task::spawn_blocking(move || app.look().map(drop)).await;
            if let Ok(Err(problem)) = looked {
                tracing::debug!("no snapshot: {}", problem.text);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn end_on_signal(handle: Handle<SocketAddr>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    handle.graceful_shutdown(Some(END));
}

/// Every page.
fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(overview::overview))
        .route("/login", get(entrance::login).post(entrance::enter))
        .route("/logout", post(entrance::leave))
        .route(
            "/welcome/{link}",
            get(entrance::welcome).post(entrance::join),
        )
        .route("/look", post(entrance::look))
        .route("/assets/{name}", get(asset))
        .route("/systems/{system}", get(system::system))
        .route(
            "/systems/{system}/{profile}/{number}",
            get(revision::revision),
        )
        .route("/compare", get(compare::compare))
        .route("/compare/file", get(compare::file))
        .route(
            "/do/initramfs",
            get(import::ask_initramfs).post(import::initramfs),
        )
        .route("/do/{verb}", get(publish::ask).post(publish::act))
        .route("/rings", get(rings::rings))
        .route("/rings/{verb}", get(rings::ask).post(rings::act))
        .route("/machines", get(machines::machines))
        .route("/machines/act", post(machines::act))
        .route("/machines/{id}", get(machines::machine))
        .route("/jobs", get(jobs::jobs))
        .route("/jobs/act", post(jobs::act))
        .route("/jobs/{id}", get(jobs::job))
        .route("/jobs/{id}/events", get(tasks::job_events))
        .route("/tasks/{id}", get(tasks::task))
        .route("/tasks/{id}/events", get(tasks::task_events))
        .route("/import", get(import::import))
        .route("/import/image", get(import::image))
        .route("/import/act", post(import::act))
        .route("/uploads/{name}", get(import::arrived).put(import::piece))
        .route("/menu", get(menu::menu))
        .route("/store", get(store::store))
        .route("/store/gc", get(store::ask).post(store::gc))
        .route("/store/verify", post(store::verify))
        .route("/keys", get(keys::keys))
        .route("/accounts", get(accounts::accounts).post(accounts::change))
        .route("/audit", get(audit::audit))
        .fallback(async || Problem::absent("there is no such page"))
        .layer(from_fn_with_state(app, guard))
}
