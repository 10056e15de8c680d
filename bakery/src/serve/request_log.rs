//! The log line of each request.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{StatusCode, header};

use super::connection::Peer;

/// The log line of one request, for `serve -v`.
pub(super) struct RequestLine {
    address: Option<IpAddr>,
    asked: String,
    range: Option<String>,
}

impl RequestLine {
    pub(super) fn of(request: &Request) -> Self {
        let range = request.headers().get(header::RANGE);
        Self {
            address: request.extensions().get::<Peer>().map(|peer| peer.0),
            asked: format!("{} {}", request.method(), request.uri().path()),
            range: range
                .and_then(|range| range.to_str().ok())
                .map(str::to_owned),
        }
    }

    /// Writes the log line.
    pub(super) fn say(&self, status: StatusCode, bytes: u64, took: Duration) {
        let address = self.address.map(|address| address.to_string());
        tracing::info!(
            "{} {}{} {} {bytes} B {:.1} ms",
            address.as_deref().unwrap_or("-"),
            self.asked,
            self.range
                .as_ref()
                .map(|range| format!(" {range}"))
                .unwrap_or_default(),
            status.as_u16(),
            took.as_secs_f64() * 1000.0
        );
    }
}
