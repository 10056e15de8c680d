//! Replays a boot while the network and the server fail.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use layerfs_benches::shaper::{Link, Shaper};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::client::Client;
use super::faults::{Fault, FaultServer};
use super::packs::learn_from;
use super::site::{SYSTEM, Site};

/// Reads of a boot, in order: every file in pieces, the files mixed.
fn reads(site: &Site) -> Vec<(String, u64, usize)> {
    let mut random = rand::rngs::SmallRng::seed_from_u64(11);
    let mut reads = Vec::new();
    for (name, bytes) in &site.files {
        let mut at = 0;
        while at < bytes.len() {
            let len = random.random_range(1..48 << 10).min(bytes.len() - at);
            reads.push((name.clone(), at as u64, len));
            at += len;
        }
    }
    reads.shuffle(&mut random);
    reads
}

fn read(client: &Client, site: &Site, (name, offset, len): &(String, u64, usize)) {
    let file = std::fs::File::open(client.at.join(name)).unwrap();
    let mut bytes = vec![0; *len];
    file.read_exact_at(&mut bytes, *offset).unwrap();
    let start = usize::try_from(*offset).unwrap();
    assert!(
        bytes == site.files[name][start..start + len],
        "{name} at {offset}"
    );
}

/// The fault that happens at the read of this number.
fn trouble(at: usize, server: &mut Option<FaultServer>, site: &Site) {
    let Some(running) = server.as_ref() else {
        return;
    };
    match at {
        4 => running.fail(Fault::ResetAfter(3_000), "/", 6),
        12 => running.fail(Fault::Late(Duration::from_secs(2)), "/", 2),
        20 => running.fail(Fault::Corrupt, "/", 3),
        28 => running.fail(Fault::Hang, "/", 1),
        36 => {
            let address = running.address;
            *server = None;
            let store = site.store();
            // The server returns while readers wait.
            let back = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(2));
                FaultServer::start_at(store, address)
            });
            *server = Some(back.join().unwrap());
        }
        44 => running.fail(Fault::SlowLoris, "/", 1),
        52 => running.fail(Fault::Status(503), "/", 4),
        _ => {}
    }
}

/// Stalls, resets, wrong data and a restart of the server during a boot, with a boot pack and
/// without: every byte is right.
#[test]
fn a_boot_goes_on_through_stalls_resets_and_a_restart() {
    let site = Site::new();
    let reads = reads(&site);
    let boot = &reads[..reads.len() / 2];
    learn_from(&site, |client| {
        boot.iter().for_each(|one| read(client, &site, one));
    });
    for (revision, policy) in [(1, "none"), (2, "pack")] {
        let mut server = Some(FaultServer::start(site.store()));
        let mut shaper = Shaper::new(Link {
            rate: 20.0,
            rtt: Duration::from_millis(20),
        });
        let target = server.as_ref().unwrap().address;
        let address = shaper.route(0, target).unwrap();
        let url = format!("http://{address}/{SYSTEM}/main@{revision}");
        let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", policy]);
        // A second reader keeps reading while the server is absent.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                for one in reads.iter().rev().step_by(3) {
                    read(&client, &site, one);
                }
            });
            for (at, one) in reads.iter().enumerate() {
                trouble(at, &mut server, &site);
                read(&client, &site, one);
            }
            other.join().unwrap();
        });
        client.compare(&site.files);
        assert!(client.number("retries") >= 3, "{}", client.status());
    }
}
