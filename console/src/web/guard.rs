//! The guard of every request: checks the account and the origin, and sets the headers of the
//! answer.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;

use super::answer::{html, log_in_first};
use super::visitor::{Frame, Visitor};
use crate::catalog::Language;
use crate::problem::Problem;
use crate::state::App;
use crate::text::unhex;

/// Pages have no inline script or style, load nothing from elsewhere, and are in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Shortest body that is worth compressing, bytes.
const GZIP_LEN_MIN: usize = 600;

/// Checks a request, passes it on, and completes the answer.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let visitor = visitor(&app, peer.ip(), &request);
    let path = request.uri().path();
    let is_open = path == "/login" || path.starts_with("/welcome/") || path.starts_with("/assets/");
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let wants_gzip = accepts_gzip(request.headers());
    let response = if !reads && is_cross_site(request.headers()) {
        Problem::forbidden("this request comes from another site").into_response()
    } else if visitor.member.is_none() && !is_open {
        match reads {
            true => log_in_first(&visitor.here),
            false => Problem::of(401, "log in first").into_response(),
        }
    } else {
        request.extensions_mut().insert(visitor.clone());
        next.run(request).await
    };
    let mut response = explain(response, &visitor);
    if !visitor.notice.is_empty() && response.status().is_success() && reads {
        let gone =
            HeaderValue::from_static("notice=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
        response.headers_mut().append(header::SET_COOKIE, gone);
    }
    protect(response.headers_mut(), app.options.is_secure());
    match wants_gzip {
        true => compress(response).await,
        false => response,
    }
}

fn visitor(app: &Arc<App>, peer: IpAddr, request: &Request) -> Visitor {
    let headers = request.headers();
    let session = cookie(headers, session_name(app));
    let is_person =
        !headers.contains_key("hx-request") && !request.uri().path().ends_with("/events");
    let member = session.and_then(|value| app.sessions.member(value, is_person));
    let member = member.and_then(|member| {
        let role = app.accounts.role(&member.name)?;
        Some((member, role))
    });
    let accepted = headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok());
    let language = cookie(headers, "language").and_then(Language::of);
    let notice = cookie(headers, "notice")
        .and_then(unhex)
        .unwrap_or_default();
    Visitor {
        app: Arc::clone(app),
        member,
        language: language.unwrap_or_else(|| Language::accepted(accepted.unwrap_or_default())),
        theme: match cookie(headers, "theme") {
            Some("dark") => "dark",
            Some("light") => "light",
            _ => "",
        },
        address: address(app, peer, headers),
        here: here(request),
        notice: String::from_utf8(notice).unwrap_or_default(),
    }
}

/// The page to which the choices of the visitor return; empty for an action.
fn here(request: &Request) -> String {
    let place = request.uri().path_and_query().map(|place| place.as_str());
    let shown = place.filter(|_| matches!(*request.method(), Method::GET | Method::HEAD));
    shown.unwrap_or("/").to_owned()
}

/// The browser's address: behind a proxy, the last one that the proxy added.
fn address(app: &App, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    if !app.options.behind_proxy {
        return peer;
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back();
    let last = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next());
    last.and_then(|text| text.trim().parse().ok())
        .unwrap_or(peer)
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'));
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn session_name(app: &App) -> &'static str {
    match app.options.is_secure() {
        true => "__Host-session",
        false => "session",
    }
}

/// The header that gives a browser its session.
pub(crate) fn session_cookie(app: &App, value: &str) -> String {
    let secure = if app.options.is_secure() {
        "; Secure"
    } else {
        ""
    };
    format!(
        "{}={value}; Path=/; HttpOnly; SameSite=Strict{secure}",
        session_name(app)
    )
}

/// Ends the session of a request; the header that removes its cookie.
pub(crate) fn clear_session(app: &App, headers: &HeaderMap) -> String {
    if let Some(value) = cookie(headers, session_name(app)) {
        app.sessions.end(value);
    }
    format!("{}; Max-Age=0", session_cookie(app, ""))
}

/// True if the browser says that another site made it send the request.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text(header::ORIGIN) else {
        return false;
    };
    let own = text(header::HOST).unwrap_or_default();
    let host = origin.split_once("://").map(|(_, host)| host);
    host != Some(own)
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("gzip"))
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    s: Frame,
    status: u16,
    text: String,
}

/// Makes a page of a problem.
fn explain(response: Response, visitor: &Visitor) -> Response {
    let Some(problem) = response.extensions().get::<Problem>() else {
        return response;
    };
    let title = match problem.status {
        403 => visitor.language.text("Not allowed"),
        404 => visitor.language.text("Not found"),
        500.. => visitor.language.text("The console failed"),
        _ => visitor.language.text("Not possible"),
    };
    let page = ProblemPage {
        s: visitor.frame(title),
        status: problem.status,
        text: problem.text.clone(),
    };
    match html(&page) {
        Ok(mut page) => {
            *page.status_mut() = response.status();
            page
        }
        Err(_) => response,
    }
}

fn protect(headers: &mut HeaderMap, is_secure: bool) {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let private = HeaderValue::from_static("no-store");
    headers.entry(header::CACHE_CONTROL).or_insert(private);
    if is_secure {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}

/// Compresses a text.
async fn compress(response: Response) -> Response {
    let kind = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let is_text = kind.is_some_and(|kind| {
        kind.starts_with("text/") && !kind.starts_with("text/event-stream")
            || kind.starts_with("image/svg")
    });
    if !is_text {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(collected) = body.collect().await else {
        return Problem::failed("the page was cut off").into_response();
    };
    let plain = collected.to_bytes();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(5));
    let packed = encoder.write_all(&plain).and_then(|()| encoder.finish());
    match packed {
        Ok(packed) if plain.len() >= GZIP_LEN_MIN => {
            parts
                .headers
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts
                .headers
                .insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::from(packed))
        }
        _ => Response::from_parts(parts, Body::from(plain)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        });
        lines.collect()
    }

    #[test]
    fn other_sites_are_recognized() {
        let host = ("host", "console.example:8090");
        assert!(!is_cross_site(&headers(&[host])));
        assert!(!is_cross_site(&headers(&[
            host,
            ("origin", "https://console.example:8090")
        ])));
        assert!(!is_cross_site(&headers(&[
            host,
            ("sec-fetch-site", "same-origin")
        ])));
        for wrong in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "https://console.example"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(is_cross_site(&headers(&[host, wrong])), "{wrong:?}");
        }
    }

    #[test]
    fn cookies_are_read_whole() {
        let both = headers(&[("cookie", "xsession=1; session=abc; theme=dark")]);
        assert_eq!(cookie(&both, "session"), Some("abc"));
        assert_eq!(cookie(&both, "sess"), None);
    }
}
