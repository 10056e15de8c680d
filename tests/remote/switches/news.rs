//! docs/HTTP.md: `GET /v1/newest` waits for a new revision, and `layerfs follow` asks for it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::{Following, Scene, files, program, wait_for};
use crate::remote::server::Bakery;
use crate::remote::site::Site;

/// The status and the text of an answer; the empty text if the connection ends without one.
fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(120)))
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let text = answer.split_once("\r\n\r\n");
    (
        status,
        text.map_or(String::new(), |(_, text)| text.to_owned()),
    )
}

/// "With `after=N&wait=SECONDS` the answer comes when the number is not N, or after SECONDS."
#[test]
fn an_answer_waits_for_a_new_revision() {
    let mut site = Site::with(files(&[("a", b"1")]));
    let bakery = Bakery::serve(&site);
    let address = bakery.address;
    let number = |query: &str| {
        let (status, text) = get(address, &format!("/v1/newest/kiosk/main{query}"));
        assert_eq!(status, "200", "{text}");
        text
    };
    for query in [
        "",
        "?after=0&wait=50",
        "?after=7&wait=50&ring=all",
        "?after=1",
        "?after=1&wait=1",
        "?after=x&wait=50",
    ] {
        assert_eq!(number(query), "1\n", "{query}");
    }
    for path in [
        "/v1/newest/other/main?after=1&wait=50",
        "/v1/newest/kiosk/..",
        "/v1/newest/kiosk",
    ] {
        assert_eq!(get(address, path).0, "404", "{path}");
    }
    std::thread::scope(|scope| {
        let ask = |ring: &str| number(&format!("?ring={ring}&after=1&wait=55"));
        let waiting = ["all", "nobody", "all"].map(|ring| scope.spawn(move || ask(ring)));
        // Also one that waits when the others have begun.
        assert_eq!(number("?after=1&wait=1"), "1\n");
        site.publish_files(files(&[("a", b"2")]));
        for answer in waiting {
            assert_eq!(answer.join().unwrap(), "2\n");
        }
    });
    // A server that ends answers those that wait.
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| number("?after=2&wait=55"));
        assert_eq!(number("?after=2&wait=1"), "2\n");
        bakery.terminate();
        assert_eq!(answer.join().unwrap(), "2\n");
    });
}

/// "A bakery also answers when there is a new revision": long before the next regular look.
#[test]
fn a_follower_takes_a_new_revision_at_once() {
    let mut scene = Scene::new(Site::with(files(&[("a", b"1")])));
    let child = Command::new(program("layerfs"))
        .args(["follow", "--mode", "auto", "--every", "86400"])
        .arg(&scene.client.at)
        .spawn()
        .unwrap();
    let _follow = Following(child);
    for content in [b"2", b"3"] {
        scene.site.publish_files(files(&[("a", content)]));
        wait_for(|| std::fs::read(scene.at("a")).unwrap() == content);
    }
}
