//! Clients that mean no good: each is refused or cut off, and the others are served.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Server, layer};
use crate::test_bakery::{TestBakery, text};

#[test]
fn requests_in_a_row_are_answered_in_order_and_heads_have_no_body() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    let (path, bytes) = layer(&bakery);
    let mut stream = server.connect();
    let requests = [
        format!("HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("HEAD {path} HTTP/1.1\r\nhost: x\r\nrange: bytes=0-4\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nrange: bytes=3-6\r\n\r\n"),
        "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    ];
    stream.write_all(requests.concat().as_bytes()).unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    assert!(raw.ends_with(&bytes), "the last answer is whole");
    let mut rest = &raw[..];
    let mut answers = Vec::new();
    for is_head in [true, true, false, false, false] {
        let end = rest
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap()
            + 4;
        let head = text(&rest[..end]).to_ascii_lowercase();
        let len = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |len| len.parse().unwrap());
        let body = if is_head { 0 } else { len };
        answers.push((head[9..12].to_owned(), len, rest[end..end + body].to_vec()));
        rest = &rest[end + body..];
    }
    assert!(
        rest.is_empty(),
        "a body of {} bytes that nobody asked for",
        rest.len()
    );
    assert_eq!((answers[0].0.as_str(), answers[0].1), ("200", bytes.len()));
    assert!(answers[1].0 == "206" && answers[1].1 == 5 || answers[1].0 == "200");
    assert_eq!(
        (answers[2].0.as_str(), &answers[2].2[..]),
        ("206", &bytes[3..7])
    );
    assert_eq!(answers[3].0, "404");
}

#[test]
fn odd_ranges_paths_and_heads_are_no_way_in() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    std::fs::write(bakery.path("secret"), "secret").unwrap();
    let (path, bytes) = layer(&bakery);
    for range in [
        "bytes=9-3",
        "bytes=-0",
        "bytes=-",
        "bytes=abc-def",
        "bytes=0-1,3-4",
        "items=0-1",
        "bytes=0-0,0-0,0-0,0-0",
        "bytes=18446744073709551615-",
        "bytes=18446744073709551616-",
        "bytes=-99999999999999999999999",
        "bytes=0-18446744073709551615",
        "bytes= 0 - 1",
        "bytes",
        "bytes=-1-2",
        "bytes=0x1-2",
    ] {
        let answer = server.get(&path, &[&format!("range: {range}")]);
        let sound = match answer.status {
            200 => answer.body == bytes,
            206 => bytes
                .windows(answer.body.len())
                .any(|part| part == answer.body),
            416 => true,
            _ => false,
        };
        assert!(
            sound,
            "{range}: {} with {} bytes",
            answer.status,
            answer.body.len()
        );
    }
    let long = format!("/{}", "a".repeat(12_000));
    for path in [
        "/layers/%2e%2e%2f%2e%2e%2fsecret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/..%5csecret",
        "/%c0%ae%c0%ae/secret",
        "/layers/%00",
        "/hints/%2e%2e/secret",
        "/boot/..;/secret",
        "http://x/../secret",
        "/v1/bundle/%2e%2e/main",
        "/v1/jobs/%2e%2e%2fsecret",
        "*",
        "//",
        &long,
    ] {
        let answer = server.get(path, &[]);
        assert!(
            matches!(answer.status, 400 | 404 | 414),
            "{path}: {}",
            answer.head
        );
        assert!(!text(&answer.body).contains("secret"), "{path}");
    }
    for request in [
        // Two lengths, and a length beside chunks: a proxy could parse them differently.
        "POST /v1/traces/kiosk/main/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01",
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut raw = Vec::new();
        let _ = stream.read_to_end(&mut raw);
        let output = text(&raw);
        assert!(
            raw.is_empty() || output.starts_with("HTTP/1.1 4") || output.starts_with("HTTP/1.0 4"),
            "{request:?}: {output}"
        );
    }
    assert_eq!(server.get("/healthz", &[]).status, 200);
}

#[test]
fn a_site_behind_one_address_may_have_more_connections() {
    let bakery = TestBakery::new();
    let bounds = ["--connections", "100", "--connections-per-address", "80"];
    let server = Server::start(&bakery, &bounds);
    let holders: Vec<TcpStream> = (0..79).map(|_| server.connect()).collect();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.get("/healthz", &[]).status, 200);
    drop(holders);
}

/// One address has at most half of the connections (at least 64), even if it opens more; slow peers
/// are disconnected, and others are served meanwhile.
#[test]
fn who_holds_connections_shuts_nobody_out() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &["--connections", "100"]);
    let mut holders: Vec<TcpStream> = (0..120).map(|_| server.connect()).collect();
    for holder in &mut holders {
        let _ = holder.write_all(b"GET /healthz HTTP/1.1\r\n");
    }
    let from_elsewhere = || {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            None,
        )
        .unwrap();
        let own: SocketAddr = ([127, 0, 0, 2], 0).into();
        rustix::net::bind(&socket, &own).unwrap();
        rustix::net::connect(&socket, &server.address).unwrap();
        let mut stream = TcpStream::from(socket);
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw).unwrap();
        text(&raw)
    };
    std::thread::sleep(Duration::from_millis(300));
    assert!(from_elsewhere().starts_with("HTTP/1.1 200"));
    // A byte now and then does not keep a connection.
    let start = Instant::now();
    let mut slow = holders.swap_remove(0);
    slow.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut answer = [0; 512];
    loop {
        assert!(
            start.elapsed() < Duration::from_secs(50),
            "a slow head is still waited for"
        );
        let _ = slow.write_all(b"x");
        match slow.read(&mut answer) {
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            _ => break,
        }
    }
    drop(holders);
    assert_eq!(server.get("/healthz", &[]).status, 200);
}
