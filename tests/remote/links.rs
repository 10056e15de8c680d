//! Shaped links: data is correct and needs the expected number of round trips.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use layerfs::chunks::ChunkSource as _;
use layerfs::root::open;
use layerfs::root::options::RemoteOptions;
use layerfs_benches::shaper::{Link, Shaper};

use super::client::Client;
use super::faults::FaultServer;
use super::server::Bakery;
use super::site::{SYSTEM, Site};

#[test]
fn every_byte_is_right_over_every_link() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    for rate in [20.0, 100.0, 1000.0] {
        for rtt in [0, 20, 50] {
            let mut shaper = Shaper::new(Link {
                rate,
                rtt: Duration::from_millis(rtt),
            });
            let address = shaper.route(0, server.address).unwrap();
            let url = format!("http://{address}/{SYSTEM}");
            let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
            client.compare(&site.files);
            assert_eq!(client.number("corrupt"), 0);
        }
    }
}

/// The connection, then three exchanges: bundle, index, first chunk. A busy machine only adds time,
/// so the best of a few attempts is the cost of the protocol.
#[test]
fn the_first_byte_comes_within_three_exchanges_after_the_connection() {
    let site = Site::new();
    let bakery = Bakery::serve(&site);
    let rtt = Duration::from_millis(300);
    let tries: Vec<_> = (0..5)
        .map(|_| first_byte(&site, bakery.address, rtt))
        .collect();
    let opened = tries.iter().map(|(opened, _)| opened).min().unwrap();
    assert!(
        *opened < rtt * 3 + rtt / 2,
        "opened after {opened:?} of {rtt:?} each"
    );
    // One more for the chunk, and one for the separate connection of HTTP/2.
    let first = tries.iter().map(|(_, first)| first).min().unwrap();
    assert!(
        *first < rtt * 5 + rtt / 2,
        "first byte after {first:?} of {rtt:?} each"
    );
}

/// Opens the system over a fresh link: when its index was there, and when its first chunk was.
fn first_byte(site: &Site, server: SocketAddr, rtt: Duration) -> (Duration, Duration) {
    let mut shaper = Shaper::new(Link { rate: 0.0, rtt });
    let address = shaper.route(0, server).unwrap();
    let mut options = RemoteOptions::new(&format!("http://{address}/{SYSTEM}")).unwrap();
    options.keys = site.allowed_signers();
    options.set("prefetch", "none").unwrap();
    let since = Instant::now();
    let root = open::open(&options).unwrap();
    let opened = since.elapsed();
    let chunk = root.index.chunk(0).unwrap();
    let mut bytes = Vec::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let then = Box::new(move |came: Result<(), _>| sender.send(came.is_ok()).unwrap());
    let _coming = root.source.bring(&[(0, chunk)], then);
    assert!(receiver.recv().unwrap());
    root.source
        .read_decoded(&root.index, 0, &chunk, usize::MAX, &mut bytes)
        .unwrap();
    let requests = root.control.status().unwrap()["requests"].as_u64();
    assert!(requests.unwrap() <= 3);
    (opened, since.elapsed())
}
