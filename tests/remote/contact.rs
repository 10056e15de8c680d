//! First contact: servers that come late, are slow, hang, reset, redirect.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use layerfs::root::open;
use layerfs::root::options::RemoteOptions;

use super::client::Client;
use super::faults::{Fault, FaultServer};
use super::site::{SYSTEM, Site};

/// A listener that never answers, until the value is dropped.
fn mute(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address).unwrap()
}

fn free_address() -> SocketAddr {
    mute(SocketAddr::from(([127, 0, 0, 1], 0)))
        .local_addr()
        .unwrap()
}

/// A server that needs longer for an answer than a client first waits is waited for longer next time.
#[test]
fn a_server_that_answers_late_is_given_more_time() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    for prefix in ["/hints", "/indexes"] {
        server.fail(Fault::Late(Duration::from_secs(7)), prefix, u64::MAX);
        let since = Instant::now();
        let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
        assert!(since.elapsed() < Duration::from_secs(60), "{prefix}");
        assert!(
            server.faults() >= 2,
            "{prefix}: it was never left too early"
        );
        server.behave();
        client.compare(&site.files);
    }
}

/// Connections that break every few bytes only cost requests, also on the way to the index.
#[test]
fn an_index_that_always_breaks_is_continued() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    server.fail(Fault::ResetAfter(1500), "/indexes", u64::MAX);
    let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
    assert!(server.faults() >= 2, "it was one answer: nothing was reset");
    client.compare(&site.files);
}

/// Redirects within the server are followed everywhere; others are refused with a message.
#[test]
fn redirects_are_followed_within_the_server_only() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    server.fail(Fault::RedirectWithin, "/", u64::MAX);
    let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
    client.compare(&site.files);
    assert_eq!(client.number("retries"), 0);
    drop(client);
    for (fault, says) in [
        (Fault::Redirect, "192.0.2.1"),
        (Fault::RedirectRound, "/moved"),
    ] {
        server.fail(fault, "/hints", u64::MAX);
        let said = Client::attempt(&url, &site.allowed_signers(), &[]).err();
        let said = said.expect("it was mounted");
        assert!(said.contains("redirect") && said.contains(says), "{said}");
        assert!(server.faults() < 10, "{} requests", server.faults());
    }
    // Endless redirects to other servers, with a working mirror: the mirror is used.
    let honest = FaultServer::start(site.store());
    server.fail(Fault::Redirect, "/", u64::MAX);
    let mirror = ["--prefetch", "none", "--mirror", &honest.url()];
    Client::mount(&url, &site.allowed_signers(), &mirror).compare(&site.files);
}

/// Faults of a server towards its first clients.
#[derive(Debug, Clone, Copy)]
enum Late {
    /// Connections are refused.
    Refuses,
    /// Connections are accepted without an answer, then reset.
    Mute,
    /// It answers, and every connection breaks.
    Resets,
    /// It hangs once for each path.
    Hangs,
    /// It answers that it is not ready.
    Unavailable,
}

/// 200 clients, many at once, against servers that start late in every way: each mounts soon.
#[test]
fn every_client_comes_up_when_the_server_does() {
    let site = Site::new();
    let ways = [
        Late::Refuses,
        Late::Mute,
        Late::Resets,
        Late::Hangs,
        Late::Unavailable,
    ];
    for way in ways {
        let address = free_address();
        let url = format!("http://{address}/{SYSTEM}");
        let mut options = RemoteOptions::new(&url).unwrap();
        options.keys = site.allowed_signers();
        options.set("prefetch", "none").unwrap();
        let began = Instant::now();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..40u64)
                .map(|number| {
                    let options = options.clone();
                    scope.spawn(move || {
                        std::thread::sleep(Duration::from_millis(number * 40));
                        let root = open::open(&options).unwrap();
                        assert!(root.index.inode_count() > 60);
                        began.elapsed()
                    })
                })
                .collect();
            let late = Duration::from_millis(1200);
            let server = match way {
                Late::Refuses => {
                    std::thread::sleep(late);
                    FaultServer::start_at(site.store(), address)
                }
                Late::Mute => {
                    let listener = mute(address);
                    std::thread::sleep(late);
                    drop(listener);
                    FaultServer::start_at(site.store(), address)
                }
                Late::Resets | Late::Hangs | Late::Unavailable => {
                    let server = FaultServer::start_at(site.store(), address);
                    let (fault, times) = match way {
                        Late::Resets => (Fault::ResetAfter(10), 120),
                        Late::Hangs => (Fault::Hang, 30),
                        _ => (Fault::Status(503), 120),
                    };
                    server.fail(fault, "/", times);
                    server
                }
            };
            let slowest = clients
                .into_iter()
                .map(|client| client.join().unwrap())
                .max();
            // The longest pause is 4 s; a hung answer is abandoned after 5 s, then 10 s; with room
            // for a busy machine.
            let slowest = slowest.unwrap_or_default();
            assert!(slowest < Duration::from_secs(60), "{way:?}: {slowest:?}");
            drop(server);
        });
    }
}
