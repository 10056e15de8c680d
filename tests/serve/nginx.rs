//! Stock nginx with the configuration we ship: before `bakery serve`, and alone over the store's directory.

use std::process::Command;
use std::time::Duration;

use super::{Server, layer};
use crate::test_bakery::{Running, TestBakery, text, wait_until};

/// nginx with our configuration, its paths and ports changed to those of the test.
fn nginx(bakery: &TestBakery, upstream: &str) -> Server {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/nginx/layerfs.conf");
    let mut site = std::fs::read_to_string(shipped).unwrap();
    for (from, to) in [
        ("127.0.0.1:8080", upstream),
        ("listen 80;", &format!("listen {address};")),
        ("/var/lib/layerfs/store", bakery.store().to_str().unwrap()),
    ] {
        assert!(site.contains(from), "{from}");
        site = site.replace(from, to);
    }
    let place = bakery.path("nginx");
    std::fs::create_dir_all(&place).unwrap();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};\n", place.display()))
        .concat();
    let whole = format!(
        "daemon off; master_process off; user root; pid {0}/pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off;\n{temporary}{site}}}\n",
        place.display()
    );
    std::fs::write(place.join("nginx.conf"), whole).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(place.join("nginx.conf"));
    let running = Running::start(&mut command);
    wait_until(Duration::from_secs(10), || {
        std::net::TcpStream::connect(address).is_ok()
    });
    Server { address, running }
}

#[test]
fn stock_nginx_stands_before_the_server_or_alone() {
    let bakery = TestBakery::new();
    let upstream = Server::start(&bakery, &[]);
    let front = nginx(&bakery, &upstream.address.to_string());
    let (path, bytes) = layer(&bakery);
    let whole = front.get(&path, &[]);
    assert_eq!((whole.status, &whole.body), (200, &bytes));
    assert!(whole.header("cache-control").unwrap().contains("immutable"));
    let part = front.get(&path, &["range: bytes=10-19"]);
    assert_eq!((part.status, &part.body[..]), (206, &bytes[10..20]));
    let direct = upstream.get("/v1/bundle/kiosk/main", &[]);
    assert_eq!(front.get("/v1/bundle/kiosk/main", &[]).status, 200);
    assert_eq!(front.get("/v1/systems", &[]).status, direct.status);
    let batch = path.replace("/layers/", "/v1/batch/").replace(".layer", "");
    let wanted = [&100u64.to_le_bytes()[..], &50u32.to_le_bytes()].concat();
    let answer = front.with("POST", &batch, &[], &wanted);
    assert_eq!(answer.status, 200, "{}", answer.head);
    let menu = text(&front.get("/boot.ipxe", &[]).body);
    assert!(menu.contains("set base http://x"), "{menu}");
    for hidden in [
        "/store.json",
        "/locks/x",
        "/../store.keys/head",
        "/tags/kiosk/main/x",
    ] {
        assert!(
            matches!(front.get(hidden, &[]).status, 400 | 404),
            "{hidden}"
        );
    }
    // Without a bakery behind it, nginx still serves the immutable objects.
    drop(upstream);
    assert_eq!(front.get(&path, &[]).body, bytes);
    assert_eq!(front.get("/v1/bundle/kiosk/main", &[]).status, 502);
}
