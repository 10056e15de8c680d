//! `kill -9` of a client that applies an update pack, of a bakery that makes one and of a mirror;
//! transfers of a mirror that end at every k-th byte (`docs/FORMAT.md` §18, `docs/PROTOCOL.md` §8).
//!
//! CI runs a few points of each; `make test-updates-long` runs 200.

use std::process::Stdio;
use std::time::{Duration, Instant};

use layerfs_benches::shaper::{Link, Shaper};

use super::client::Client;
use super::faults::FaultServer;
use super::mirror::Place;
use super::site::{SYSTEM, Site};
use super::updates::{Scene, pack, pack_file};
use crate::test_bakery::{program, wait_until};

/// The number of points.
fn points(default: u32) -> u32 {
    std::env::var("LAYERFS_UPDATE_POINTS").map_or(default, |text| text.parse().unwrap())
}

/// "A client that ends before it has the whole pack continues at its next mount, and asks only for
/// the units that it lacks." Killed when a part of the pack is applied, it never fetches a chunk
/// without the pack.
#[test]
fn a_killed_client_goes_on() {
    let mut scene = Scene::new();
    scene.site.change(1);
    pack(&scene.site, 1, 2);
    let before = scene.chunks().len();
    let saved = scene.save();
    scene.restore(&saved);
    let client = scene.mount();
    client.wait_for("update", "complete");
    client.end();
    let after = scene.chunks().len();
    assert!(after > before);
    // A slow line, so that kills find a part of the pack there.
    let mut shaper = Shaper::new(Link {
        rate: 4.0,
        rtt: Duration::from_millis(2),
    });
    let address = shaper.route(0, scene.server.address).unwrap();
    let url = format!("http://{address}/{SYSTEM}");
    let signers = scene.site.allowed_signers();
    let arguments = ["--cache", &scene.cache, "-o", "offline-wait=1"];
    let points = points(5) as usize;
    for point in 0..points {
        scene.restore(&saved);
        let wanted = before + (after - before) * point / points;
        let mut client = Client::start(&url, &signers, &arguments);
        let since = Instant::now();
        // The first kills come while the records and the index arrive.
        let is_early = point < points / 4;
        let pause = Duration::from_millis(point as u64 * 5);
        let is_there = || match is_early {
            true => since.elapsed() >= pause,
            false => scene.chunks().len() >= wanted,
        };
        while !is_there() {
            assert!(!client.has_ended(), "the mount ended");
            assert!(since.elapsed() < Duration::from_secs(120), "no progress");
            std::thread::sleep(Duration::from_millis(1));
        }
        client.kill();
        let client = scene.mount();
        // "None" if the client had everything.
        wait_until(Duration::from_secs(180), || {
            let status = client.status();
            let update = status["update"].as_str().unwrap();
            update.starts_with("complete") || update == "none"
        });
        client.compare(&scene.site.files);
        let status = client.status();
        assert_eq!(status["demanded"], 0, "{point}: {status}");
        assert_eq!(status["revision"], format!("{SYSTEM}/main@2"));
    }
}

/// Killed at any moment, `bakery update-pack` leaves a whole pack or none, and the next run makes
/// it.
#[test]
fn a_killed_maker_leaves_a_whole_pack_or_none() {
    let mut site = Site::new();
    site.change(1);
    let file = pack_file(&site, 1, 2);
    let maker = || {
        let mut command = std::process::Command::new(program("bakery"));
        command.arg("--store").arg(site.store());
        command.args([
            "update-pack",
            &format!("{SYSTEM}@1"),
            &format!("{SYSTEM}@2"),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        command
    };
    let since = Instant::now();
    assert!(maker().status().unwrap().success());
    let whole = since.elapsed();
    let points = points(6);
    let mut without = 0;
    for point in 0..points {
        let _ = std::fs::remove_file(&file);
        let mut child = maker().spawn().unwrap();
        std::thread::sleep(whole * point / points);
        // Only the process that this test started.
        child.kill().unwrap();
        child.wait().unwrap();
        without += u32::from(!file.exists());
        let found = bakery::scrub::scrub(site.publisher().history(), true, &|_| ()).unwrap();
        assert!(found.defects.is_empty(), "{:#?}", found.defects);
    }
    assert!(without > 0, "every kill came too late");
    let _ = std::fs::remove_file(&file);
    assert!(maker().status().unwrap().success());
    assert!(file.exists());
}

/// Killed at any moment, a mirror has no head without its objects, and the next run continues.
#[test]
fn a_killed_mirror_never_exposes_a_head_early() {
    let mut site = Site::new();
    for seed in 1..4 {
        let revision = site.change(seed);
        pack(&site, revision - 1, revision);
    }
    let server = FaultServer::start(site.store());
    let place = Place::new(&site);
    let (mut kills, wanted) = (0, points(12));
    // Rounds that complete the mirror begin anew.
    for round in 0..4 * u64::from(wanted) + 60 {
        if kills == wanted {
            break;
        }
        let mut child = place
            .mirror(&server.url(), &["--limit", "1M"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(30 + round * 53 % 460));
        let is_complete = child.try_wait().unwrap().is_some_and(|it| it.success());
        // Only the process that this test started.
        child.kill().unwrap();
        child.wait().unwrap();
        kills += u32::from(!is_complete);
        if place.heads() > 0 {
            place.verify();
        }
        if is_complete {
            assert_eq!(place.heads(), 4);
            std::fs::remove_dir_all(&place.store).unwrap();
        }
    }
    assert!(kills > 3);
    let last = place.round(&server.url(), &[]);
    place.verify();
    assert_eq!(place.heads(), 4, "{last}");
}

/// "A transfer continues where it stopped": whichever byte of all answers is the last before a
/// break, the mirror is the same, and receives little more than without a break.
#[test]
fn a_mirror_that_is_cut_at_every_kth_byte_is_whole() {
    let mut site = Site::baked();
    site.change(1);
    pack(&site, 1, 2);
    let server = FaultServer::start(site.store());
    let place = |name: &str| Place {
        store: site.path(name),
        signers: site.allowed_signers(),
    };
    let most = i64::MAX / 2;
    server.cut_after(most);
    let received = |round: &serde_json::Value| round["received"].as_u64().unwrap();
    let least = received(&place("whole").round(&server.url(), &[]));
    let total = most - server.until_cut();
    let points = i64::from(points(6));
    for point in 0..points {
        let cut = total * point / points;
        server.cut_after(cut);
        let place = place("cut");
        let round = place.round(&server.url(), &[]);
        assert!(server.until_cut() < 0, "no cut at {cut}");
        assert_eq!(place.heads(), 2, "{cut}");
        place.verify();
        // A small answer, a chunk or the sections of a layer are fetched again.
        assert!(received(&round) < least + (300 << 10), "{cut}: {round}");
        std::fs::remove_dir_all(&place.store).unwrap();
    }
}
