//! Answers: pages, fragments, redirects and problems.

use askama::Template;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderValue, Response as HttpResponse, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::problem::{Problem, Result};
use crate::text::{hex, percent};

/// A page.
///
/// # Errors
/// The template fails.
pub(crate) fn html(page: &impl Template) -> Result<Response> {
    let text = page.render();
    let text =
        text.map_err(|error| Problem::failed(format!("the page cannot be rendered: {error}")))?;
    Ok(typed("text/html; charset=utf-8", text))
}

/// A part of a page.
///
/// # Errors
/// The template fails.
pub(crate) fn fragment(page: &impl Template) -> Result<String> {
    page.render()
        .map_err(|error| Problem::failed(error.to_string()))
}

fn typed(kind: &'static str, text: String) -> Response {
    let mut response = HttpResponse::new(Body::from(text));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Sends the browser to another page of the console, by GET. Any other place becomes the overview.
pub(crate) fn redirect(to: &str) -> Response {
    let own = to.starts_with('/') && !to.starts_with("//") && !to.contains(['\\', '\r', '\n']);
    let to = HeaderValue::from_str(if own { to } else { "/" });
    let mut response = StatusCode::SEE_OTHER.into_response();
    let to = to.unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(LOCATION, to);
    response
}

/// The same redirect, with a notice that the next page shows once.
pub(crate) fn with_notice(to: &str, notice: &str) -> Response {
    let mut response = redirect(to);
    let short: String = notice.chars().take(500).collect();
    let cookie = format!(
        "notice={}; Path=/; Max-Age=60; HttpOnly; SameSite=Strict",
        hex(short.as_bytes())
    );
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The guard turns it into a page.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::error!("{}", self.text);
        }
        let mut response = (status, self.text.clone()).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Redirects to the log-in, which returns to `here`.
pub(super) fn log_in_first(here: &str) -> Response {
    match here {
        "/" => redirect("/login"),
        here => redirect(&format!("/login?to={}", percent(here.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_here() {
        let place = |to: &str| {
            redirect(to)
                .headers()
                .get(LOCATION)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(place("/systems/a?x=1"), "/systems/a?x=1");
        for elsewhere in [
            "//evil.example",
            "https://evil.example",
            "/\\evil",
            "",
            "/a\r\nX: y",
        ] {
            assert_eq!(place(elsewhere), "/", "{elsewhere:?}");
        }
    }
}
