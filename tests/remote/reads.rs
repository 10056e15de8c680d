use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::time::{Duration, Instant};

use super::client::Client;
use super::faults::{Fault, FaultServer};
use super::server::Bakery;
use super::site::{SYSTEM, Site};

/// Every fault, at the start of reading and then never again, with one server: all bytes come.
#[test]
fn every_fault_of_the_only_server_is_survived() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    let faults = [
        (Fault::Corrupt, 3),
        (Fault::ShiftedBytes, 3),
        (Fault::Truncate, 3),
        (Fault::WrongRange, 3),
        (Fault::WrongLength, 3),
        (Fault::NoRanges, 3),
        (Fault::Status(404), 3),
        (Fault::Status(429), 3),
        (Fault::Status(500), 3),
        (Fault::Status(503), 3),
        (Fault::Redirect, 3),
        (Fault::ResetAfter(10_000), 5),
        (Fault::SlowLoris, 1),
        (Fault::Hang, 1),
    ];
    for (fault, times) in faults {
        server.behave();
        let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
        server.fail(fault, "/layers", times);
        client.compare(&site.files);
        assert!(
            server.faults() >= times,
            "{fault:?} was shown {} times",
            server.faults()
        );
        assert!(client.number("retries") >= 1, "{fault:?} was not noticed");
    }
}

/// The same faults on the way to the records and the index.
#[test]
fn faults_before_the_mount_only_delay_it() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    for (fault, prefix) in [
        (Fault::Status(503), "/refs"),
        (Fault::Truncate, "/manifests"),
        (Fault::ResetAfter(100), "/manifests"),
        (Fault::Corrupt, "/indexes"),
        (Fault::Truncate, "/indexes"),
        (Fault::WrongRange, "/indexes"),
        (Fault::Status(500), "/indexes"),
    ] {
        server.fail(fault, prefix, 2);
        let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
        assert!(server.faults() >= 2, "{fault:?} at {prefix} was not shown");
        client.compare(&site.files);
    }
}

/// A server that resets every connection after k bytes: received data is kept and continued.
#[test]
fn resets_at_every_kth_byte_only_cost_requests() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    for count in [20_000, 50_000] {
        server.behave();
        let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
        server.fail(Fault::ResetAfter(count), "/layers", u64::MAX);
        client.compare(&site.files);
        assert!(client.number("retries") > 3, "nothing was reset");
    }
}

/// One mirror always sends wrong data, the other is correct: every byte is right, and wrong answers
/// are counted and named.
#[test]
fn a_lying_mirror_is_found_out_and_left() {
    let site = Site::new();
    let (liar, honest) = (
        FaultServer::start(site.store()),
        FaultServer::start(site.store()),
    );
    let url = format!("{}/{SYSTEM}", liar.url());
    for fault in [
        Fault::Corrupt,
        Fault::ShiftedBytes,
        Fault::Status(404),
        Fault::Hang,
    ] {
        liar.behave();
        let arguments = ["--prefetch", "none", "--mirror", &honest.url()];
        let client = Client::mount(&url, &site.allowed_signers(), &arguments);
        liar.fail(fault, "/layers", u64::MAX);
        client.compare(&site.files);
        assert!(liar.faults() >= 1, "{fault:?} was not shown");
        if matches!(fault, Fault::Corrupt | Fault::ShiftedBytes) {
            assert!(client.number("corrupt") >= 1);
            let status = client.status();
            assert!(
                status["mirrors"][0]["corrupt"].as_u64() >= Some(1),
                "{status}"
            );
            assert_eq!(status["mirrors"][1]["corrupt"].as_u64(), Some(0));
        }
    }
}

/// The server dies during a read and returns: the reader waits, the status shows this, no byte is
/// lost.
#[test]
fn a_server_killed_and_restarted_mid_read_delays_the_reader() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let address = server.address;
    let url = format!("{}/{SYSTEM}", server.url());
    let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
    assert_eq!(
        std::fs::read(client.at.join("small30")).unwrap(),
        site.files["small30"]
    );
    drop(server);
    let path = client.at.join("large");
    let reader = std::thread::spawn(move || std::fs::read(path).unwrap());
    let since = Instant::now();
    while client.status()["waiting_seconds"].as_u64() < Some(2) {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "the status does not say that it waits"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!reader.is_finished());
    let _server = FaultServer::start_at(site.store(), address);
    assert!(reader.join().unwrap() == site.files["large"]);
    client.compare(&site.files);
    assert!(client.status()["waiting_seconds"].is_null());
}

/// `--timeout` turns waiting into EIO, and local data is still readable.
#[test]
fn with_a_timeout_reads_fail_instead_of_waiting() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    let client = Client::mount(
        &url,
        &site.allowed_signers(),
        &["--prefetch", "none", "--timeout", "2"],
    );
    assert_eq!(
        std::fs::read(client.at.join("middle")).unwrap(),
        site.files["middle"]
    );
    drop(server);
    let since = Instant::now();
    let error = std::fs::read(client.at.join("large")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(
        std::fs::read(client.at.join("middle")).unwrap(),
        site.files["middle"]
    );
}

/// Against the real bakery: bundle, HTTP/2, batches; and prefetching in the background.
#[test]
fn a_bakery_serves_all_of_it_in_few_requests() {
    let site = Site::new();
    let bakery = Bakery::serve(&site);
    let url = format!("{}/{SYSTEM}", bakery.url());
    let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
    client.compare(&site.files);
    assert_eq!((client.number("corrupt"), client.number("retries")), (0, 0));
    // Memory is filled only on request.
    let modest = Client::mount(&url, &site.allowed_signers(), &[]);
    assert_eq!(modest.status()["prefetch"], "none");
    let lazy = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "all"]);
    lazy.wait_for("prefetch", "done");
    let before = lazy.number("requests");
    lazy.compare(&site.files);
    assert_eq!(
        lazy.number("requests"),
        before,
        "something was not prefetched"
    );
    assert!(before < 12, "{before} requests for 5 MB");
}

/// A server that fails a while: what prefetching gave up is fetched in a further round, and only then
/// does the status say that everything is local.
#[test]
fn what_was_not_prefetched_is_fetched_in_a_further_round() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    server.fail(Fault::Status(500), "/layers", 8);
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path().to_str().unwrap();
    for options in [["--prefetch", "all"], ["--cache", cache]] {
        let client = Client::mount(&url, &site.allowed_signers(), &options);
        client.wait_for("prefetch", "done");
        assert_eq!(client.status()["prefetch"], "done: everything is local");
        let before = client.number("requests");
        client.compare(&site.files);
        assert_eq!(client.number("requests"), before);
        server.fail(Fault::Status(500), "/layers", 8);
    }
}

/// A cache smaller than the system keeps what it has: a further mount fetches nothing in its place.
#[test]
fn a_full_cache_is_not_filled_again() {
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    let cache = tempfile::tempdir().unwrap();
    let options = format!("cache={},cache-size=1M", cache.path().display());
    let mount = || {
        let client = Client::mount(&url, &site.allowed_signers(), &["-o", &options]);
        client.wait_for("prefetch", "done");
        assert_eq!(client.status()["prefetch"], "done: the cache is full");
        client
    };
    mount().end();
    let asked = || {
        server
            .ranges("/layers")
            .iter()
            .map(ExactSizeIterator::len)
            .sum::<usize>()
    };
    let before = asked();
    mount().end();
    let again = asked() - before;
    assert!(again * 4 < before, "{again} bytes again, {before} at first");
}

/// The file `large`, such that the kernel requests exactly the bytes read.
fn open_past_the_cache(client: &Client) -> std::fs::File {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECT);
    options.open(client.at.join("large")).unwrap()
}

/// One read of the kernel costs one round trip, however many chunks it spans.
#[test]
fn the_chunks_of_one_read_come_in_one_request() {
    // The maximum request if the buffer is not aligned to a page.
    const LEN: usize = (1 << 20) - 4096;
    let site = Site::new();
    let plain = FaultServer::start(site.store());
    let bakery = Bakery::serve(&site);
    for url in [
        format!("{}/{SYSTEM}", plain.url()),
        format!("{}/{SYSTEM}", bakery.url()),
    ] {
        let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
        let file = open_past_the_cache(&client);
        let (requests, demanded) = (client.number("requests"), client.number("demanded"));
        let mut bytes = vec![0; LEN];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == site.files["large"][..LEN]);
        let pieces = client.number("demanded") - demanded;
        assert!(pieces >= 4, "{pieces} chunks: the test shows nothing");
        assert_eq!(client.number("requests") - requests, 1, "{url}");
    }
}

/// A read that begins in a decoded chunk and continues in a missing one copies nothing from the
/// first until it has both.
#[test]
fn a_read_across_chunks_decodes_each_once() {
    const CHUNK: usize = 256 << 10;
    const AT: [usize; 4] = [0, CHUNK - 4096, 2 * CHUNK - 4096, 2 * CHUNK + 4096];
    let site = Site::new();
    let server = FaultServer::start(site.store());
    let url = format!("{}/{SYSTEM}", server.url());
    let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "none"]);
    let file = open_past_the_cache(&client);
    let decoded = || client.whole_status()["chunks"]["decoded"].as_u64().unwrap();
    let before = decoded();
    for part in AT.windows(2) {
        let mut bytes = vec![0; part[1] - part[0]];
        file.read_exact_at(&mut bytes, part[0] as u64).unwrap();
        assert!(bytes == site.files["large"][part[0]..part[1]]);
    }
    assert_eq!(decoded() - before, 3, "chunks touched: three");
}
