//! Boot reports, from `layerfs bench-boot` to `bakery log`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};

use super::client::{Client, program};
use super::server::Bakery;
use super::site::{SYSTEM, Site};

fn bench_boot(client: &Client) -> Output {
    Command::new(program("layerfs"))
        .args(["bench-boot", "--json", "--send", "--settle", "0"])
        .arg(&client.at)
        .output()
        .unwrap()
}

fn bakery(site: &Site, arguments: &[&str]) -> String {
    let output = Command::new(program("bakery"))
        .arg("--store")
        .arg(site.store())
        .args(arguments)
        .arg("--spool")
        .arg(site.path("spool"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The status and the body of one request.
pub(super) fn ask(bakery: &Bakery, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(bakery.address).unwrap();
    let len = body.len();
    let head =
        format!("{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses the length may hang up before it has read everything.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or(0), answer)
}

#[test]
fn a_boot_tells_how_long_it_took_and_the_log_shows_it() {
    let site = Site::new();
    let bakery_serve = Bakery::serve(&site);
    let url = format!("{}/{SYSTEM}", bakery_serve.url());
    let upper = crate::scratch::Scratch::new();
    for name in ["upper", "work"] {
        std::fs::create_dir(upper.path().join(name)).unwrap();
    }
    let place = upper.path().display();
    let options = format!("upperdir={place}/upper,workdir={place}/work");
    let client = Client::mount(&url, &site.allowed_signers(), &["-o", &options]);
    client.compare(&site.files);
    let sent = bench_boot(&client);
    let said = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(sent.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(report["revision"], format!("{SYSTEM}/main@1"));
    let status = client.status();
    let counts = &report["counts"];
    assert_eq!(counts["demanded"], status["demanded"], "{report} {status}");
    assert!(counts["bytes"].as_u64() > Some(100_000), "{report}");
    assert!(counts["requests"].as_u64() > Some(0), "{report}");
    assert!(report["daemon_kib"].as_u64() > Some(1_000), "{report}");
    let (times, number) = (&report["times"], serde_json::Value::as_u64);
    assert!(number(&times["mounted_ms"]) > Some(0), "{report}");
    assert!(number(&times["mounted_ms"]) < number(&times["counted_ms"]));
    // The report was sent to the server together with the trace.
    let traces = site
        .path("spool")
        .join("traces")
        .join(SYSTEM)
        .join("main/1");
    assert_eq!(std::fs::read_dir(traces).unwrap().count(), 1);
    let log: serde_json::Value =
        serde_json::from_str(&bakery(&site, &["log", SYSTEM, "--json"])).unwrap();
    assert_eq!(log[0]["boots"]["count"], 1, "{log}");
    assert_eq!(log[0]["boots"]["median_ms"], times["target_ms"], "{log}");
    let shown = bakery(&site, &["log", SYSTEM]);
    assert!(
        shown.contains("boots in") && shown.contains("(1 boot)"),
        "{shown}"
    );
    let shown = bakery(&site, &["show", SYSTEM]);
    assert!(
        shown.lines().any(|line| line.starts_with("boots ")),
        "{shown}"
    );
    let (_, page) = ask(&bakery_serve, "GET /metrics", b"");
    let row = format!(
        "bakery_boot_seconds_count{{system=\"{SYSTEM}\",profile=\"main\",revision=\"1\"}} 1"
    );
    assert!(page.lines().any(|line| line == row), "{page}");
    // Once more: two boots.
    assert!(bench_boot(&client).status.success());
    let shown = bakery(&site, &["log", SYSTEM]);
    assert!(shown.contains("2 boots)"), "{shown}");

    // An invalid report is refused, and changes nothing.
    let path = format!("POST /v1/boots/{SYSTEM}/main");
    let good = report.to_string();
    for (head, body, wanted) in [
        (format!("{path}/1"), good.clone().into_bytes(), 204),
        (format!("{path}/1"), b"{}".to_vec(), 400),
        (format!("{path}/1"), vec![b' '; 5000], 413),
        (
            format!("{path}/1"),
            good.replace("\"format\":1", "\"format\":9").into_bytes(),
            400,
        ),
        (format!("{path}/2"), good.clone().into_bytes(), 400),
        (
            format!("{path}/2"),
            good.replace("main@1", "main@2").into_bytes(),
            404,
        ),
        (
            format!("POST /v1/boots/{SYSTEM}/../1"),
            good.clone().into_bytes(),
            400,
        ),
    ] {
        let (status, answer) = ask(&bakery_serve, &head, &body);
        assert_eq!(status, wanted, "{head}: {answer}");
    }
    let shown = bakery(&site, &["log", SYSTEM]);
    assert!(shown.contains("3 boots)"), "{shown}");
}

#[test]
fn a_report_that_cannot_be_sent_says_why() {
    let site = Site::new();
    let bakery_serve = Bakery::serve(&site);
    let url = format!("{}/{SYSTEM}", bakery_serve.url());
    let client = Client::mount(&url, &site.allowed_signers(), &[]);
    let sent = bench_boot(&client);
    let said = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert_eq!(sent.status.code(), Some(2), "{said}");
    assert!(said.contains("read-only"), "{said}");
    // The report itself was shown, and the trace was sent all the same.
    assert!(serde_json::from_slice::<serde_json::Value>(&sent.stdout).is_ok());
    let traces = site
        .path("spool")
        .join("traces")
        .join(SYSTEM)
        .join("main/1");
    assert_eq!(std::fs::read_dir(traces).unwrap().count(), 1);
}
