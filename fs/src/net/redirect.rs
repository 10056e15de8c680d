//! Redirects: followed within one server, a few times. The name of another server may be impossible
//! to resolve after switch_root, and the user names mirrors explicitly. Data is verified as usual.

use hyper::{Method, header};

use super::address::ServerName;
use super::error::FetchError;
use super::exchange::{Ask, HttpAnswer};
use crate::limits::{REDIRECT_PATH_LEN_MAX, REDIRECTS_MAX};

/// The next request, if `answer` redirects within `server`.
///
/// # Errors
/// It redirects to another server, or has no valid target.
pub(crate) fn next(
    server: &ServerName,
    ask: &Ask,
    answer: &HttpAnswer,
) -> Result<Option<Ask>, FetchError> {
    if ask.method != Method::GET || !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308)
    {
        return Ok(None);
    }
    let to = answer.header(header::LOCATION).unwrap_or_default();
    let from = match ask.is_absolute {
        true => ask.path.clone(),
        false => format!("{}{}", server.prefix, ask.path),
    };
    let path = path_within(server, &from, to).ok_or_else(|| refused(to))?;
    Ok(Some(Ask {
        path,
        is_absolute: true,
        ..ask.clone()
    }))
}

/// The error for a redirect that is not followed.
pub(crate) fn refused(to: &str) -> FetchError {
    FetchError::Redirect {
        to: to.chars().take(200).collect(),
        max: REDIRECTS_MAX,
    }
}

/// The path on `server` of target `to`, found at `from`; `None` if it is elsewhere.
fn path_within(server: &ServerName, from: &str, to: &str) -> Option<String> {
    let plain = |byte: u8| byte > b' ' && byte < 0x7f && byte != b'#' && byte != b'\\';
    if to.is_empty() || to.len() > REDIRECT_PATH_LEN_MAX || !to.bytes().all(plain) {
        return None;
    }
    if to.starts_with("//") {
        return None;
    }
    if to.starts_with('/') {
        return Some(to.to_owned());
    }
    if let Some((scheme, rest)) = to.split_once("://") {
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let other = ServerName::parse(&format!("http://{authority}")).ok()?;
        let same = scheme.eq_ignore_ascii_case("http")
            && other.host.eq_ignore_ascii_case(&server.host)
            && other.port == server.port;
        return same.then(|| path.to_owned());
    }
    if to.contains(':') {
        return None;
    }
    let (directory, _) = from.rsplit_once('/')?;
    Some(format!("{directory}/{to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_within_the_server_only() {
        let server = ServerName::parse("http://Mirror:8080/pub").unwrap();
        let leads = |to: &str| path_within(&server, "/pub/layers/a.layer", to);
        for (to, path) in [
            ("/other/a.layer", "/other/a.layer"),
            ("http://mirror:8080/x?y=1", "/x?y=1"),
            ("HTTP://MIRROR:8080", "/"),
            ("b.layer", "/pub/layers/b.layer"),
        ] {
            assert_eq!(leads(to).as_deref(), Some(path), "{to}");
        }
        for to in [
            "",
            "https://mirror:8080/x",
            "http://mirror/x",
            "http://elsewhere:8080/x",
            "//elsewhere/x",
            "ftp://mirror:8080/x",
            "file:x",
            "/a b",
            "/a\r\nHost: b",
            "http://user@mirror:8080/x",
        ] {
            assert_eq!(leads(to), None, "{to}");
        }
    }
}
