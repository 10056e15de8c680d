//! The status of a mount: the value of an extended attribute of its root directory, so that no
//! socket and no path outside the mount is needed.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::filesystem::LayerFs;
use crate::metrics::{Report, Requests};

/// The attribute of the root directory that holds the status, as JSON.
pub(crate) const STATUS_XATTR: &[u8] = b"user.layerfs.status";

/// The state of a mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The version of the daemon.
    pub version: String,
    /// Its process number.
    pub pid: u32,
    /// The layers, base first: digest and length.
    pub layers: Vec<(String, u64)>,
    /// Objects of the flattened stack.
    pub inodes: u32,
    /// The upper directory when the mount began.
    pub upper: Option<String>,
    /// `default` or `passthrough`.
    pub mode: String,
    /// Threads that answer requests.
    pub threads: usize,
    /// Number of objects of the upper that the kernel knows.
    pub nodes: usize,
    /// Open descriptors in the caches.
    pub descriptors: usize,
    /// Status of the chunk cache.
    pub chunks: ChunkStatus,
    /// Requests by kind.
    pub requests: Vec<Report>,
    /// Requests that met a fault in the daemon.
    pub panics: u64,
    /// Requests that wait for a server now.
    #[serde(default)]
    pub waiting_requests: u64,
    /// After so many seconds the kernel ends a mount that has not answered a request; absent: never. A request is answered
    /// with EIO before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout_s: Option<u64>,
    /// Seconds since the mount began.
    pub uptime_s: u64,
    /// Milliseconds from the kernel's start (`CLOCK_MONOTONIC`) to the mount.
    #[serde(default)]
    pub mounted_ms: u64,
    /// Status of the source of chunks, if it is remote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<serde_json::Value>,
}

/// The decoded-chunk cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChunkStatus {
    /// Number of bytes held.
    pub held_len: u64,
    /// Chunks decoded so far.
    pub decoded: u64,
    /// Stored bytes read so far.
    pub stored_len: u64,
    /// Number of unavailable or damaged chunks.
    pub failed: u64,
}

/// Properties that do not change while a mount exists.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// See [`Status::mode`].
    pub mode: &'static str,
    /// See [`Status::threads`].
    pub threads: usize,
    /// When the mount began.
    pub began: std::time::Instant,
    /// See [`Status::mounted_ms`].
    pub mounted_ms: u64,
    /// See [`Status::request_timeout_s`].
    pub request_timeout: Option<std::time::Duration>,
}

/// The status of `fs` now.
pub fn gather(fs: &LayerFs, requests: &Requests, fixed: &Fixed) -> Status {
    let lower = fs.lower();
    let counters = &lower.chunks.counters;
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        layers: lower.layers.clone(),
        inodes: lower.object_count(),
        upper: fs.upper_path().map(|path| path.display().to_string()),
        mode: fixed.mode.to_owned(),
        threads: fixed.threads,
        nodes: fs.node_count(),
        descriptors: fs.open_descriptors(),
        chunks: ChunkStatus {
            held_len: lower.chunks.held_len(),
            decoded: counters.decoded.load(Ordering::Relaxed),
            stored_len: counters.stored_len.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
        },
        requests: requests.report(),
        panics: requests.panics.load(Ordering::Relaxed),
        waiting_requests: requests.waiting.load(Ordering::Relaxed),
        request_timeout_s: fixed.request_timeout.map(|limit| limit.as_secs()),
        uptime_s: fixed.began.elapsed().as_secs(),
        mounted_ms: fixed.mounted_ms,
        source: lower.control.status(),
    }
}

impl Status {
    /// The status as text.
    pub fn human(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let upper = self.upper.as_deref().unwrap_or("none (read-only)");
        let _ = writeln!(
            text,
            "layerfs {}, process {}, up {} s",
            self.version, self.pid, self.uptime_s
        );
        let _ = writeln!(
            text,
            "upper: {upper}; mode: {}; threads: {}",
            self.mode, self.threads
        );
        let _ = writeln!(text, "layers (base first), {} inodes:", self.inodes);
        for (digest, len) in &self.layers {
            let _ = writeln!(text, "  {digest}  {len} bytes");
        }
        let chunks = &self.chunks;
        let _ = writeln!(
            text,
            "chunks: {} decoded, {} stored bytes read, {} bytes held, {} failed",
            chunks.decoded, chunks.stored_len, chunks.held_len, chunks.failed
        );
        let _ = writeln!(
            text,
            "nodes: {}; descriptors: {}",
            self.nodes, self.descriptors
        );
        for request in &self.requests {
            let _ = writeln!(
                text,
                "{:>12} {:>10}  mean {:>9.1} us  longest {:>11.1} us",
                request.name, request.count, request.mean_us, request.longest_us
            );
        }
        if self.waiting_requests > 0 {
            let _ = writeln!(
                text,
                "waiting for a server: {} requests",
                self.waiting_requests
            );
        }
        if let Some(limit) = self.request_timeout_s {
            let _ = writeln!(
                text,
                "request timeout of the kernel (fs.fuse): {limit} s; later answers of a server are EIO"
            );
        }
        if self.panics > 0 {
            let _ = writeln!(
                text,
                "FAULTS: {} requests caused a panic in the daemon",
                self.panics
            );
        }
        let newest = self.source.as_ref().and_then(|source| source.get("newest"));
        if let Some(newest) = newest.and_then(serde_json::Value::as_str) {
            let _ = writeln!(text, "the newest revision is {newest}: layerfs switch");
        }
        if let Some(source) = &self.source {
            let _ = writeln!(text, "source: {source}");
        }
        text
    }
}
