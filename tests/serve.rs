//! `bakery serve` over real connections.

mod hostile;
mod loaders;
mod nginx;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wire::trust::Bundle;

use crate::test_bakery::{Running, TestBakery, program, run, text, wait_until};

/// A running server.
struct Server {
    address: SocketAddr,
    running: Running,
}

impl Server {
    fn start(bakery: &TestBakery, more: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let mut command = bakery.command();
        command
            .args(["serve", "--listen", &address.to_string()])
            .args(more);
        let running = Running::start(&mut command);
        wait_until(Duration::from_secs(10), || {
            TcpStream::connect(address).is_ok()
        });
        Self { address, running }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// One request on a new connection.
    fn ask(&self, request: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut raw = Vec::new();
        let _ = stream.read_to_end(&mut raw);
        Answer::parse(&raw)
    }

    fn get(&self, path: &str, headers: &[&str]) -> Answer {
        self.with("GET", path, headers, &[])
    }

    fn with(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        for header in headers {
            request += &format!("{header}\r\n");
        }
        if method == "POST" {
            request += &format!("content-length: {}\r\n", body.len());
        }
        self.ask(&(request + "\r\n"), body)
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn parse(raw: &[u8]) -> Self {
        let end = raw.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else {
            return Self {
                status: 0,
                head: text(raw),
                body: Vec::new(),
            };
        };
        let head = text(&raw[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            status,
            head,
            body: raw[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// The path and the bytes of a layer of the store.
fn layer(bakery: &TestBakery) -> (String, Vec<u8>) {
    let entry = std::fs::read_dir(bakery.store().join("layers"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    (
        format!("/layers/{}", entry.file_name().to_str().unwrap()),
        std::fs::read(entry.path()).unwrap(),
    )
}

#[test]
fn objects_ranges_and_conditions() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    let (path, bytes) = layer(&bakery);
    let len = bytes.len();
    let whole = server.get(&path, &[]);
    assert_eq!((whole.status, &whole.body), (200, &bytes));
    assert_eq!(
        whole.header("cache-control"),
        Some("public, max-age=31536000, immutable")
    );
    let etag = whole.header("etag").unwrap().to_owned();
    assert!(path.contains(etag.trim_matches('"')), "{etag}");
    for (range, expected) in [
        ("0-0", 0..1),
        ("10-19", 10..20),
        ("-7", len - 7..len),
        ("100-", 100..len),
        ("0-99999999999", 0..len),
    ] {
        let part = server.get(&path, &[&format!("range: bytes={range}")]);
        assert_eq!(
            (part.status, part.body.as_slice()),
            (206, &bytes[expected.clone()]),
            "{range}"
        );
        let content_range = format!("bytes {}-{}/{len}", expected.start, expected.end - 1);
        assert_eq!(part.header("content-range"), Some(content_range.as_str()));
    }
    let beyond = server.get(&path, &[&format!("range: bytes={len}-")]);
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, Some(format!("bytes */{len}").as_str()))
    );
    let several = server.get(&path, &["range: bytes=0-1,4-5"]);
    assert_eq!((several.status, several.body.len()), (200, len));
    let known = server.get(&path, &[&format!("if-none-match: {etag}")]);
    assert_eq!((known.status, known.body.len()), (304, 0));
    let stale = server.get(&path, &["range: bytes=0-9", "if-range: \"another\""]);
    assert_eq!((stale.status, stale.body.len()), (200, len));
    let fresh = server.get(&path, &["range: bytes=0-9", &format!("if-range: {etag}")]);
    assert_eq!((fresh.status, fresh.body.len()), (206, 10));
    let head = server.with("HEAD", &path, &[], &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(
        head.header("content-length"),
        Some(len.to_string().as_str())
    );
    let hint = server.get("/hints/kiosk/main", &[]);
    assert_eq!((hint.status, hint.body.as_slice()), (200, &b"1"[..]));
    assert_eq!(hint.header("cache-control"), Some("no-cache"));
    assert_eq!(
        server
            .get("/refs/kiosk/main/00000000000000000001", &[])
            .status,
        200
    );
    assert_eq!(
        server
            .get("/refs/kiosk/main/00000000000000000002", &[])
            .status,
        404
    );
}

#[test]
fn nothing_but_the_store_is_reachable_or_writable() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    std::fs::write(bakery.path("secret"), "secret").unwrap();
    for path in [
        "/../secret",
        "/layers/../../secret",
        "/layers/%2e%2e/%2e%2e/secret",
        "//etc/passwd",
        "/store.keys/head",
        "/hints/../../secret",
        "/layers/",
        "/staging",
        "/locks/x/y",
        "/v1/bundle/../x",
        "/v1/bundle/kiosk/..",
        "/v1/bundle/kiosk/main@x",
        "/v1/bundle/kiosk/main@7",
        "/v1/bundle/none/main",
        "/v1/nothing",
    ] {
        let answer = server.get(path, &[]);
        assert!(
            matches!(answer.status, 400 | 404),
            "{path}: {}",
            answer.head
        );
        assert!(!text(&answer.body).contains("secret"), "{path}");
    }
    let (path, bytes) = layer(&bakery);
    for method in ["PUT", "DELETE", "POST", "PATCH"] {
        assert_eq!(server.with(method, &path, &[], b"").status, 405, "{method}");
    }
    assert_eq!(server.get(&path, &[]).body, bytes);
    let large = format!("x-large: {}", "a".repeat(40_000));
    assert_eq!(server.get(&path, &[&large]).status, 431);
    let many: Vec<String> = (0..200).map(|number| format!("x-{number}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(server.get(&path, &many).status, 431);
    assert_eq!(server.ask("nonsense\r\n\r\n", b"").status, 400);
    assert_eq!(server.get("/healthz", &[]).status, 200);
}

#[test]
fn bundles_batches_traces_and_metrics() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    let bundle = server.get("/v1/bundle/kiosk/main", &[]);
    assert_eq!(bundle.status, 200);
    let same = server.get("/v1/bundle/kiosk/main@1", &[]);
    assert_eq!(same.body, bundle.body);
    let parsed = Bundle::parse(&bundle.body).unwrap();
    let history = bakery.history();
    let wanted = "kiosk".parse().unwrap();
    let high_water = wire::trust::HighWater::default();
    let verified = parsed
        .verify(history.anchors(), &wanted, bakery::clock::now(), high_water)
        .unwrap();
    assert_eq!(verified.manifest.revision, 1);
    let systems: serde_json::Value =
        serde_json::from_slice(&server.get("/v1/systems", &[]).body).unwrap();
    assert_eq!(systems[0]["system"], "kiosk");
    assert_eq!(systems[1]["revision"], 1);

    let (path, bytes) = layer(&bakery);
    let batch = path.replace("/layers/", "/v1/batch/").replace(".layer", "");
    let ranges: [(u64, u32); 3] = [(100, 50), (0, 4), (bytes.len() as u64 - 1, 1)];
    let body: Vec<u8> = ranges
        .iter()
        .flat_map(|(at, len)| [&at.to_le_bytes()[..], &len.to_le_bytes()].concat())
        .collect();
    let answer = server.with("POST", &batch, &[], &body);
    let expected = [&bytes[100..150], &bytes[..4], &bytes[bytes.len() - 1..]].concat();
    assert_eq!((answer.status, answer.body), (200, expected));
    let outside = [u64::MAX.to_le_bytes().as_slice(), &1_u32.to_le_bytes()].concat();
    assert_eq!(server.with("POST", &batch, &[], &outside).status, 416);
    assert_eq!(server.with("POST", &batch, &[], b"torn").status, 400);
    assert_eq!(
        server.with("POST", &batch, &[], &vec![0; 1 << 20]).status,
        413
    );

    assert_eq!(
        server
            .with("POST", "/v1/traces/kiosk/main/1", &[], b"trace")
            .status,
        204
    );
    assert_eq!(
        server
            .with("POST", "/v1/traces/kiosk/main/9", &[], b"trace")
            .status,
        404
    );
    assert_eq!(
        server
            .with("POST", "/v1/traces/kiosk/..%2f..%2fx/1", &[], b"trace")
            .status,
        404
    );
    assert_eq!(
        server
            .with("POST", "/v1/traces/kiosk/main/1", &[], &vec![0; 5 << 20])
            .status,
        413
    );
    let kept: Vec<_> = std::fs::read_dir(bakery.spool().join("traces/kiosk/main/1"))
        .unwrap()
        .collect();
    assert_eq!(kept.len(), 1);

    let job = bakery
        .receive("kiosk", "{\"version\":1}", b"anything")
        .unwrap();
    let output: serde_json::Value =
        serde_json::from_slice(&server.get(&format!("/v1/jobs/{job}"), &[]).body).unwrap();
    assert_eq!(output["at"], "queued");
    assert_eq!(
        server
            .get("/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV", &[])
            .status,
        404
    );
    assert_eq!(server.get("/v1/jobs/..", &[]).status, 404);

    // A request that a route refuses counts there, and not among the unknown paths.
    assert_eq!(server.get("/v1/bundle/NOT-A-NAME/main", &[]).status, 404);
    let page = text(&server.get("/metrics", &[]).body);
    for line in [
        "bakery_requests_total{route=\"bundle\",status=\"2xx\"} 2",
        "bakery_requests_total{route=\"bundle\",status=\"4xx\"} 1",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    assert!(page.contains("bakery_traces_stored_total 1"), "{page}");
    assert!(page.contains("bakery_jobs{state=\"queued\"} 1"), "{page}");
}

#[test]
fn http2_with_prior_knowledge() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    let (path, bytes) = layer(&bakery);
    let url = format!("http://{}{path}", server.address);
    let output = run(Command::new("curl")
        .args([
            "-sS",
            "--http2-prior-knowledge",
            "-r",
            "5-104",
            "-w",
            "%{http_version} %{http_code}",
            "-o",
        ])
        .arg(bakery.path("part"))
        .arg(url));
    assert_eq!(text(&output.stdout), "2 206");
    assert_eq!(std::fs::read(bakery.path("part")).unwrap(), &bytes[5..105]);
}

#[test]
fn running_answers_finish_on_sigterm() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    // Larger than the socket buffers, so the answer is still being sent.
    let large = vec![7_u8; 64 << 20];
    let name = "ab".repeat(32);
    std::fs::write(bakery.store().join(format!("boot/{name}")), &large).unwrap();
    let mut stream = server.connect();
    let idle = server.connect();
    stream
        .write_all(format!("GET /boot/{name} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .unwrap();
    let mut first = [0; 4096];
    stream.read_exact(&mut first).unwrap();
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest.len()
    });
    let start = Instant::now();
    assert!(server.running.terminate());
    assert!(start.elapsed() < Duration::from_secs(10));
    let head_len = first
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    assert_eq!(reader.join().unwrap() + first.len() - head_len, large.len());
    drop(idle);
}

#[test]
fn more_connections_than_allowed_wait_their_turn() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &["--connections", "2"]);
    let holders = [server.connect(), server.connect()];
    std::thread::sleep(Duration::from_millis(200));
    let mut third = server.connect();
    third
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    third
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    assert!(
        third.read(&mut [0; 1]).is_err(),
        "answered beyond the limit"
    );
    drop(holders);
    third
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut answer = Vec::new();
    third.read_to_end(&mut answer).unwrap();
    assert!(text(&answer).starts_with("HTTP/1.1 200"));
}

#[test]
fn two_hundred_clients_fetch_at_once() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    let pack = vec![9_u8; 1 << 20];
    let name = "cd".repeat(32);
    std::fs::create_dir_all(bakery.store().join("packs")).unwrap();
    std::fs::write(bakery.store().join(format!("packs/{name}.layer")), &pack).unwrap();
    let path = format!("/packs/{name}.layer");
    let complete = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..200)
            .map(|_| {
                let (server, path) = (&server, &path);
                scope.spawn(move || server.get(path, &[]).body.len())
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .filter(|len| *len == 1 << 20)
            .count()
    });
    assert_eq!(complete, 200);
}

#[test]
fn a_taken_address_is_an_error_with_a_remedy() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    let second = Command::new(program("bakery"))
        .arg("--store")
        .arg(bakery.store())
        .args(["serve", "--listen", &server.address.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(
        text(&second.stderr).contains("--listen"),
        "{}",
        text(&second.stderr)
    );
}

#[test]
fn boot_menus_lead_to_the_revisions_own_files() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &["--menu-timeout", "3"]);
    let script = text(&server.get("/boot.ipxe", &[]).body);
    assert!(
        script.starts_with("#!ipxe\nset base http://x\n"),
        "{script}"
    );
    assert!(
        script.contains("root=layerfs:http://x/kiosk/main@1 ip=dhcp quiet"),
        "{script}"
    );
    assert!(script.contains("--timeout 3000"), "{script}");
    let kernel = script
        .lines()
        .find_map(|line| line.strip_prefix("kernel --name kernel ${base}"))
        .unwrap();
    let kernel = kernel.split(' ').next().unwrap();
    assert_eq!(
        server.get(kernel, &[]).body,
        std::fs::read("/etc/hostname").unwrap()
    );
    let initrd = script
        .lines()
        .find_map(|line| line.strip_prefix("initrd --name initrd ${base}"))
        .unwrap();
    assert_eq!(
        server.get(initrd.split(' ').next().unwrap(), &[]).body,
        crate::test_bakery::initramfs()
    );
    let one = text(&server.get("/ipxe/lab/main@1", &[]).body);
    assert!(one.contains("lab/main@1") && !one.contains("menu"), "{one}");
    assert!(text(&server.get("/ipxe/lab/main", &[]).body).contains("lab/main@1"));
    assert_eq!(server.get("/ipxe/lab/main@2", &[]).status, 404);
    let nothing = server.get("/ipxe/nothing/main", &[]);
    assert_eq!(nothing.status, 404);
    assert!(
        text(&nothing.body)
            .contains("has no nothing. It has:\n  kiosk                    revision 1\n  lab "),
        "{nothing:?}"
    );
    assert!(text(&server.get("/grub.cfg", &[]).body).contains("(http,x)/boot/"));
    assert!(text(&server.get("/pxelinux.cfg/default", &[]).body).contains("KERNEL http://x/boot/"));
    let bad = server.ask(
        "GET /boot.ipxe HTTP/1.1\r\nhost: a${b}\r\nconnection: close\r\n\r\n",
        b"",
    );
    assert_eq!(bad.status, 400);
}

#[test]
fn dnsmasq_takes_its_configuration() {
    let bakery = TestBakery::new();
    for arguments in [
        &["--network", "192.168.7.0"][..],
        &["--range", "10.0.0.100,10.0.0.200"],
    ] {
        let printed = run(Command::new(program("bakery"))
            .args([
                "dnsmasq",
                "--url",
                "http://10.0.0.1:8080",
                "--tftp-root",
                "/tmp",
            ])
            .args(arguments));
        let file = bakery.path("dnsmasq.conf");
        std::fs::write(&file, printed.stdout).unwrap();
        run(Command::new("dnsmasq")
            .arg("--test")
            .arg(format!("--conf-file={}", file.display())));
    }
}
