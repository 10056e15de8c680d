//! Logs and results that name their objects.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use super::OPENING;
use crate::test_bakery::{Running, TestBakery, run, text, upload};

/// OPERATIONS.md: "names each damaged object once, but not the layers that borrow from it or their
/// indexes".
#[test]
fn verify_blames_only_what_is_damaged() {
    let bakery = TestBakery::new();
    // The new layer borrows the chunks of this file from the base.
    let words = "word ".repeat(50_000);
    for name in ["copy", "again"] {
        bakery
            .receive("kiosk", OPENING, &upload(name, words.as_bytes()))
            .unwrap();
    }
    bakery.drain();
    let revisions = bakery.revisions("kiosk");
    let layers = &revisions[1].manifest.layers;
    assert_eq!(layers.len(), 3);
    bakery.assert_sound();
    let base = bakery
        .store()
        .join(format!("layers/{}.layer", layers[0].digest));
    let chunk = layerfmt::Layer::open(&base)
        .unwrap()
        .index()
        .chunk(0)
        .unwrap();
    let mut bytes = fs::read(&base).unwrap();
    bytes[usize::try_from(chunk.offset).unwrap() + 10] ^= 1;
    fs::remove_file(&base).unwrap();
    fs::write(&base, bytes).unwrap();
    let verdict = bakery
        .command()
        .args(["--json", "verify", "--all"])
        .output()
        .unwrap();
    assert_eq!(verdict.status.code(), Some(1), "{}", text(&verdict.stderr));
    let verdict: serde_json::Value = serde_json::from_slice(&verdict.stdout).unwrap();
    let defects = verdict["defects"].as_array().unwrap();
    assert_eq!(defects.len(), 1, "{defects:?}");
    let blamed = defects[0].as_str().unwrap();
    assert!(blamed.contains(&layers[0].digest.to_string()), "{blamed}");
}

/// INGEST.md: `bakery serve -v` logs one line for each request.
#[test]
fn a_verbose_server_logs_each_request() {
    let bakery = TestBakery::new();
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let mut command = bakery.command();
    command
        .args(["-v", "serve", "--listen", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let running = Running { child };
    crate::test_bakery::wait_until(std::time::Duration::from_secs(20), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let head = bakery.history().head(&"kiosk".parse().unwrap());
    let layer = head.unwrap().unwrap().manifest.layers[0].digest;
    let layer = format!("layers/{layer}.layer");
    for path in [&layer, "nothing"] {
        let url = format!("http://127.0.0.1:{port}/{path}");
        run(std::process::Command::new("curl").args(["-s", "-o", "/dev/null", "-r", "0-3", &url]));
    }
    let mut asked = Vec::new();
    while asked.len() < 2 {
        let line = lines.next().unwrap().unwrap();
        if line.contains(" GET ") {
            asked.push(line);
        }
    }
    assert!(
        asked[0].contains(&format!("127.0.0.1 GET /{layer} bytes=0-3 206 4 B")),
        "{asked:?}"
    );
    assert!(
        asked[1].contains("127.0.0.1 GET /nothing bytes=0-3 404"),
        "{asked:?}"
    );
    drop(running);
}
