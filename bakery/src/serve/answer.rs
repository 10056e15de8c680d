//! Answers made of bytes: whole objects, places of one, and small texts, with ranges and tags.

use std::ops::Range;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use layerfmt::Digest;
use wire::paths::ObjectPath;

use super::Server;
use super::object::{ObjectError, ServedObject};
use super::range::{self, Selection};
use crate::initrd::part_table::MachineNeeds;

/// An object whose name is its digest.
pub(super) async fn immutable(
    server: &Server,
    path: &ObjectPath,
    digest: &Digest,
    asked: &HeaderMap,
) -> Result<Response, ObjectError> {
    let object = server.objects.open(&path.to_string()).await?;
    let etag = format!("\"{digest}\"");
    send(&SentObject::Whole(&object), path, asked, &etag, FOREVER).await
}

/// The lifetime of an answer that never changes.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// What an answer is made of.
enum SentObject<'o> {
    /// An object.
    Whole(&'o ServedObject),
    /// These places of an object, in this order.
    Places(&'o ServedObject, Vec<Range<u64>>),
}

impl SentObject<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Whole(object) => object.len(),
            Self::Places(_, places) => places.iter().map(|one| one.end - one.start).sum(),
        }
    }

    /// These bytes of the content as a response.
    async fn response(&self, range: Range<u64>) -> Result<Response, ObjectError> {
        match self {
            Self::Whole(object) => Ok(object.body(range).await?.into_response()),
            Self::Places(object, places) => {
                let len = range.end - range.start;
                let places = range::within(places, &range);
                let mut response = object.body_of_places(places).into_response();
                put(&mut response, header::CONTENT_LENGTH, &len.to_string());
                Ok(response)
            }
        }
    }
}

/// The initramfs of a machine: places of the stored one, or all of it.
pub(super) async fn initramfs_of(
    server: &Server,
    digest: &Digest,
    machine: MachineNeeds,
    asked: &HeaderMap,
) -> Result<Response, ObjectError> {
    let path = ObjectPath::Boot(*digest);
    let places = server.initrds.cut(&server.objects, digest, machine).await?;
    let Some(places) = places else {
        return immutable(server, &path, digest, asked).await;
    };
    let object = server.objects.open(&path.to_string()).await?;
    let name = blake3::hash(format!("{places:?}").as_bytes());
    let etag = format!("\"{digest}-{}\"", name.to_hex());
    let content = SentObject::Places(&object, places);
    send(&content, &path, asked, &etag, FOREVER).await
}

/// Bytes at the start of an update pack that hold its record, and so the digests of all its other bytes.
const TELLING_LEN: u64 = 4096;

/// An object whose first bytes determine all others, by digest: an update pack.
pub(super) async fn named(
    server: &Server,
    path: &ObjectPath,
    asked: &HeaderMap,
) -> Result<Response, ObjectError> {
    let object = server.objects.open(&path.to_string()).await?;
    let first = object.bytes(0..object.len().min(TELLING_LEN)).await?;
    let etag = format!("\"{}-{}\"", blake3::hash(&first).to_hex(), object.len());
    send(&SentObject::Whole(&object), path, asked, &etag, "no-cache").await
}

async fn send(
    content: &SentObject<'_>,
    path: &ObjectPath,
    asked: &HeaderMap,
    etag: &str,
    lifetime: &'static str,
) -> Result<Response, ObjectError> {
    let len = content.len();
    let mut response = match plan(asked, etag, len) {
        RangePlan::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        RangePlan::Send(Selection::Unsatisfiable) => return Ok(unsatisfiable(len)),
        RangePlan::Send(Selection::Whole) => content.response(0..len).await?,
        RangePlan::Send(Selection::Part(part)) => {
            let sent = format!("bytes {}-{}/{len}", part.start, part.end.saturating_sub(1));
            let mut response = content.response(part).await?;
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            put(&mut response, header::CONTENT_RANGE, &sent);
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(path));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(lifetime));
    put(&mut response, header::ETAG, etag);
    Ok(response)
}

/// A small object that may appear or change.
pub(super) async fn record(
    server: &Server,
    path: &ObjectPath,
    asked: &HeaderMap,
) -> Result<Response, ObjectError> {
    let bytes = server.objects.read(&path.to_string()).await?;
    Ok(small(asked, bytes, content_type(path)))
}

/// A small answer made for this request: its ETag is the digest of its content, and caches must revalidate it.
pub(super) fn small(asked: &HeaderMap, bytes: Bytes, kind: HeaderValue) -> Response {
    let etag = format!("\"{}\"", blake3::hash(&bytes).to_hex());
    let len = bytes.len() as u64;
    let mut response = match plan(asked, &etag, len) {
        RangePlan::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        RangePlan::Send(_) => Body::from(bytes).into_response(),
    };
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    put(&mut response, header::ETAG, &etag);
    response
}

enum RangePlan {
    NotModified,
    Send(Selection),
}

fn plan(asked: &HeaderMap, etag: &str, len: u64) -> RangePlan {
    let value = |name| asked.get(name).map(HeaderValue::as_bytes);
    if value(header::IF_NONE_MATCH).is_some_and(|tags| range::none_match_hits(tags, etag)) {
        return RangePlan::NotModified;
    }
    if !range::if_range_holds(value(header::IF_RANGE), etag) {
        return RangePlan::Send(Selection::Whole);
    }
    RangePlan::Send(range::select(value(header::RANGE), len))
}

fn unsatisfiable(len: u64) -> Response {
    let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    put(
        &mut response,
        header::CONTENT_RANGE,
        &format!("bytes */{len}"),
    );
    response
}

fn content_type(path: &ObjectPath) -> HeaderValue {
    HeaderValue::from_static(path.class().media_type())
}

/// Sets a header field, if the value can be one.
pub(super) fn put(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
