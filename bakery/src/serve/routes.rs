//! Requests and answers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use layerfmt::Digest;
use tower_http::timeout::RequestBodyTimeoutLayer;
use wire::batch::{self, BatchError};
use wire::boot_report::{BootReport, REPORT_LEN_MAX};
use wire::hello::HELLO_LEN_MAX;
use wire::manifest::ProfileName;
use wire::paths::{Class, ObjectPath, Request as RequestPath, route};

use super::answer::{immutable, initramfs_of, named, put, record, small};
use super::connection::Peer;
use super::metrics::Route;
use super::object::ObjectError;
use super::posts::{PostError, Posts};
use super::request_log::RequestLine;
use super::{Server, bundle, fleet, limits, menu_client, menus, news, rings};
use crate::jobs::{Spool, SpoolState};
use crate::netboot::boot_card;

type RouteState = State<Arc<Server>>;

/// Every path of the server.
pub(super) fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route(route::HEALTHZ, get(healthz))
        .route(route::METRICS, get(metrics))
        .route(route::BUNDLE, get(bundle::get))
        .route(route::NEWEST, get(news::get))
        .route(route::SYSTEMS, get(bundle::systems))
        .route(route::JOB, get(job))
        .route(route::IPXE, get(menus::ipxe))
        .route(route::LANDING, get(menus::landing))
        .route(route::IPXE_SYSTEM, get(menus::system))
        .route(route::IPXE_PROFILE, get(menus::profile))
        .route(route::GRUB, get(menus::grub))
        .route(route::PXELINUX, get(menus::pxelinux))
        .route(
            route::BATCH,
            post(batch_ranges).layer(DefaultBodyLimit::max(batch::BODY_LEN_MAX)),
        )
        .route(
            route::TRACES,
            post(take_trace).layer(DefaultBodyLimit::max(limits::TRACE_LEN_MAX)),
        )
        .route(
            route::BOOTS,
            post(take_report).layer(DefaultBodyLimit::max(REPORT_LEN_MAX)),
        )
        .route(
            route::HELLO,
            post(fleet::hello).layer(DefaultBodyLimit::max(HELLO_LEN_MAX)),
        )
        .fallback(object)
        .layer(RequestBodyTimeoutLayer::new(limits::BODY_TIMEOUT))
        .layer(middleware::from_fn_with_state(Arc::clone(&server), count))
        .with_state(server)
}

/// Counts every answer.
async fn count(State(server): RouteState, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let route = Route::of(matched.map(MatchedPath::as_str), request.uri().path());
    let line = tracing::enabled!(tracing::Level::INFO).then(|| RequestLine::of(&request));
    let start = Instant::now();
    let response = next.run(request).await;
    let bytes = body_len(&response);
    server
        .metrics
        .answered(route, response.status().as_u16(), bytes, start.elapsed());
    if let Some(line) = line {
        line.say(response.status(), bytes, start.elapsed());
    }
    response
}

/// Length of the body; of a streamed one by its header, 0 without.
fn body_len(response: &Response) -> u64 {
    let told = || {
        let value = response.headers().get(header::CONTENT_LENGTH)?;
        value.to_str().ok()?.parse().ok()
    };
    let known = response.body().size_hint().exact();
    known.or_else(told).unwrap_or(0)
}

/// An object of the store by its own path.
async fn object(State(server): RouteState, request: Request) -> Response {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let allow = [(header::ALLOW, "GET, HEAD")];
        return (
            StatusCode::METHOD_NOT_ALLOWED,
            allow,
            "this store is read only\n",
        )
            .into_response();
    }
    let Some(RequestPath::Object(object)) = RequestPath::parse(request.uri().path()) else {
        return absent();
    };
    note_fetched(&server, &request);
    let machine = request.uri().query().and_then(boot_card::machine);
    if let (ObjectPath::Boot(digest), Some(machine)) = (&object, machine)
        && server.divides_initramfs
    {
        let sent = initramfs_of(&server, digest, machine, request.headers()).await;
        return sent.unwrap_or_else(|error| refused(&server, &error));
    }
    let sent = match (object.digest(), object.class()) {
        (Some(digest), _) => immutable(&server, &object, &digest, request.headers()).await,
        (None, Class::Update | Class::Delta) => named(&server, &object, request.headers()).await,
        (None, _) => record(&server, &object, request.headers()).await,
    };
    // A HEAD request gets the same head; hyper leaves the body out.
    sent.unwrap_or_else(|error| refused(&server, &error))
}

/// Reports to the fleet that a machine fetched the kernel or the initramfs of its menu. Their
/// addresses carry the machine.
fn note_fetched(server: &Server, request: &Request) {
    let (Some(fleet), Some(query)) = (&server.fleet, request.uri().query()) else {
        return;
    };
    if request.method() == Method::GET
        && let Some(note) = menu_client::fetched(query)
    {
        let from = request.extensions().get::<Peer>().map(|peer| peer.0);
        fleet.fetched(&note, from);
    }
}

async fn batch_ranges(
    State(server): RouteState,
    Path(layer): Path<String>,
    body: Bytes,
) -> Response {
    match answer_batch(&server, &layer, &body).await {
        Ok(response) => response,
        Err(error) => refused(&server, &error),
    }
}

async fn answer_batch(server: &Server, layer: &str, body: &[u8]) -> Result<Response, ObjectError> {
    let digest: Digest = layer.parse().map_err(|_| ObjectError::Missing)?;
    let layer = ObjectPath::Layer(digest).to_string();
    let object = match server.objects.open(&layer).await {
        Err(ObjectError::Missing) => {
            let pack = ObjectPath::Pack(digest).to_string();
            server.objects.open(&pack).await?
        }
        other => other?,
    };
    let ranges = match batch::decode(body, object.len()) {
        Ok(ranges) => ranges,
        Err(error) => {
            let status = match error {
                BatchError::Torn(_) => StatusCode::BAD_REQUEST,
                BatchError::TooMuch => StatusCode::PAYLOAD_TOO_LARGE,
                BatchError::Outside { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            };
            return Ok((status, format!("{error}\n")).into_response());
        }
    };
    let len: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        parts.push(object.bytes(range).await?);
    }
    let stream = futures::stream::iter(parts.into_iter().map(Ok::<_, std::convert::Infallible>));
    let mut response = Body::from_stream(stream).into_response();
    put(&mut response, header::CONTENT_LENGTH, &len.to_string());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn take_trace(
    State(server): RouteState,
    Path((system, profile, revision)): Path<(String, String, u64)>,
    body: Bytes,
) -> Response {
    let metrics = &server.metrics;
    let of = (system, profile, revision);
    match keep(&server, of, body, |server| server.traces.as_ref()).await {
        Ok(()) => metrics.traces_stored.fetch_add(1, Relaxed),
        Err(Some(response)) => {
            metrics.traces_refused.fetch_add(1, Relaxed);
            return response;
        }
        Err(None) => return absent(),
    };
    StatusCode::NO_CONTENT.into_response()
}

/// A boot report. It is parsed before it is stored, and the stored form is our own.
async fn take_report(
    State(server): RouteState,
    Path((system, profile, revision)): Path<(String, String, u64)>,
    body: Bytes,
) -> Response {
    let metrics = &server.metrics;
    let refuse = |response: Response| {
        metrics.reports_refused.fetch_add(1, Relaxed);
        response
    };
    let read = BootReport::decode(&body).and_then(|report| {
        let name = report.revision_name()?;
        let bytes = report.encode()?;
        Ok((name, report.times.target_ms, bytes))
    });
    let (name, target_ms, bytes) = match read {
        Ok(read) => read,
        Err(error) => {
            return refuse((StatusCode::BAD_REQUEST, format!("{error}\n")).into_response());
        }
    };
    if (&name.name.system, &name.name.profile, name.revision) != (&system, &profile, Some(revision))
    {
        let text = "the report is of another revision\n";
        return refuse((StatusCode::BAD_REQUEST, text).into_response());
    }
    let of = (system, profile, revision);
    match keep(&server, of, bytes.into(), |server| server.reports.as_ref()).await {
        Ok(()) => metrics.booted(name.name, revision, target_ms),
        Err(Some(response)) => return refuse(response),
        Err(None) => return absent(),
    }
    StatusCode::NO_CONTENT.into_response()
}

/// Stores a post about an existing revision; otherwise returns the answer.
async fn keep(
    server: &Arc<Server>,
    (system, profile, revision): (String, String, u64),
    body: Bytes,
    posts: impl Fn(&Server) -> Option<&Posts> + Send + 'static,
) -> Result<(), Option<Response>> {
    let Ok(name) = ProfileName::new(&system, &profile) else {
        return Err(None);
    };
    if posts(server).is_none() {
        return Err(None);
    }
    let head = ObjectPath::Head(name, revision).to_string();
    match server.objects.read(&head).await {
        Ok(_) => {}
        Err(ObjectError::Missing) => return Err(None),
        Err(error) => return Err(Some(refused(server, &error))),
    }
    let writer = Arc::clone(server);
    let put = tokio::task::spawn_blocking(move || {
        posts(&writer).map_or(Ok(()), |posts| {
            posts.put(&system, &profile, revision, &body)
        })
    });
    let status = match put.await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(PostError::Enough(_))) => StatusCode::TOO_MANY_REQUESTS,
        Ok(Err(error @ PostError::Spool { .. })) => {
            tracing::error!("{error}");
            StatusCode::INSUFFICIENT_STORAGE
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Err(Some((status, "not kept\n").into_response()))
}

/// Tests that the store can be read, for load balancers.
async fn healthz(State(server): RouteState) -> Response {
    let name = ProfileName {
        system: "healthz".into(),
        profile: "healthz".into(),
    };
    let hint = ObjectPath::Hint(name).to_string();
    match server.objects.read(&hint).await {
        Ok(_) | Err(ObjectError::Missing) => "ok\n".into_response(),
        Err(error) => {
            tracing::error!("{error}");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the store cannot be read\n",
            )
                .into_response()
        }
    }
}

async fn metrics(State(server): RouteState) -> Response {
    let jobs = match server.spool.clone() {
        Some(spool) => tokio::task::spawn_blocking(move || count_jobs(&spool)).await,
        None => Ok(Vec::new()),
    };
    let jobs = jobs.unwrap_or_default();
    let mut page = server.metrics.render(&jobs);
    match rings::metrics(&server.objects).await {
        Ok(rings) => page.push_str(&rings),
        Err(error) => tracing::warn!("the metrics page has no rings: {error}"),
    }
    if let Some(fleet) = &server.fleet {
        page.push_str(&fleet.metrics().await);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response()
}

fn count_jobs(spool: &Spool) -> Vec<(&'static str, u64)> {
    let count = |state: SpoolState| {
        Some((
            state.name(),
            std::fs::read_dir(spool.state(state)).ok()?.count() as u64,
        ))
    };
    SpoolState::ALL.into_iter().filter_map(count).collect()
}

/// The progress of a job. Knowledge of its number is the permission: 80 random bits that only the
/// sender has received.
async fn job(State(server): RouteState, Path(id): Path<String>, asked: HeaderMap) -> Response {
    let (Some(spool), Ok(id)) = (&server.spool, id.parse::<ulid::Ulid>()) else {
        return absent();
    };
    let spool = spool.clone();
    let look = move || {
        let job = spool.find(id).ok().flatten()?;
        Some(serde_json::json!({
            "job": id.to_string(),
            "at": job.state.name(),
            "progress": job.progress(),
            "ending": job.ending().ok().flatten(),
        }))
    };
    let Ok(Some(found)) = tokio::task::spawn_blocking(look).await else {
        return absent();
    };
    small(
        &asked,
        found.to_string().into(),
        HeaderValue::from_static("application/json"),
    )
}

pub(super) fn absent() -> Response {
    let never = [(header::CACHE_CONTROL, "no-store")];
    (StatusCode::NOT_FOUND, never, "no such object\n").into_response()
}

/// The answer to a client after a failure; the log has the details.
pub(super) fn refused(server: &Server, error: &ObjectError) -> Response {
    match error {
        ObjectError::Missing => absent(),
        ObjectError::Store { .. } => {
            server.metrics.store_errors.fetch_add(1, Relaxed);
            tracing::error!("{error}");
            let never = [(header::CACHE_CONTROL, "no-store")];
            (StatusCode::BAD_GATEWAY, never, "the store cannot be read\n").into_response()
        }
    }
}
