//! The same on a real S3: SeaweedFS. `make test-s3` installs and starts it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bakery::store::{Store, check, conformance};

use super::world::{World, files, name, revision, with};
use crate::test_bakery::{Running, program, run, upload, wait_until};

/// Longest wait for a cluster that has just lost a server.
const LONG: Duration = Duration::from_secs(1200);

/// `s3://bucket` of a running store; the `AWS_…` variables give its address.
const PLACE: &str = "LAYERFS_TEST_S3";

fn place(test: &str) -> String {
    let bucket = std::env::var(PLACE).expect("run this through make test-s3");
    format!(
        "{}/{test}-{}",
        bucket.trim_end_matches('/'),
        std::process::id()
    )
}

#[test]
#[ignore = "needs SeaweedFS: make test-s3"]
fn seaweedfs_conforms() {
    let store = Store::create(&place("conformance")).unwrap();
    conformance::run(&store);
    for _ in 0..3 {
        let defects = check::probe(&store)
            .unwrap()
            .into_iter()
            .find(|f| f.defect.is_some());
        assert!(defects.is_none(), "{defects:?}");
    }
}

#[test]
#[ignore = "needs SeaweedFS: make test-s3"]
fn a_whole_history_lives_in_a_bucket() {
    let world = World::at(crate::scratch::Scratch::new(), place("history"));
    let base = files([("a", "1"), ("b", "1")]);
    world.push("alt", &base);
    let two = world.push("alt", &with(&base, [("a", Some("2"))]));
    assert_eq!(world.files(&two), with(&base, [("a", Some("2"))]));
    let publisher = world.publisher();
    publisher
        .add_profile(&name("alt/lab"), &revision("alt@1"), "admin", "")
        .unwrap();
    publisher.rollback(&revision("alt@1"), "admin", "").unwrap();
    let policy = bakery::sweep::SweepPolicy {
        keep_last: 1,
        grace: std::time::Duration::ZERO,
        ..Default::default()
    };
    assert!(
        !bakery::sweep::sweep(&world.history(), &policy)
            .unwrap()
            .objects
            .is_empty()
    );
    world.assert_sound();
}

#[test]
#[ignore = "needs SeaweedFS: make test-s3"]
fn a_store_moves_to_a_bucket_and_back() {
    let world = World::new();
    // An upload of several parts with incompressible data.
    let long: String = (0..600_000)
        .map(|n| {
            blake3::hash(&[n as u8, (n >> 8) as u8, (n >> 16) as u8]).to_hex()[..32].to_owned()
        })
        .collect();
    let base = files([("a", "1"), ("long", &long)]);
    world.push("alt", &base);
    let two = world.push("alt", &with(&base, [("a", Some("2"))]));
    let bucket = place("moved");
    let back = world.dir.path().join("back").display().to_string();
    let at = |store: &str, words: &[&str]| {
        let mut command = Command::new(program("bakery"));
        command
            .args(["--store", store, "--keys"])
            .arg(world.keys().directory())
            .args(words);
        run(&mut command);
    };
    at("unused", &["store", "copy", world.location(), &bucket]);
    at(&bucket, &["verify", "--all"]);
    at(&bucket, &["rollback", "alt@1"]);
    at("unused", &["store", "copy", &bucket, &back]);
    at(&back, &["verify", "--all"]);
    at(&back, &["revert", "alt@3"]);
    at("unused", &["store", "copy", &bucket, &back, "--replace"]);
    at(&back, &["log", "alt"]);
    assert_eq!(world.files(&two), with(&base, [("a", Some("2"))]));
}

#[test]
#[ignore = "needs SeaweedFS: make test-s3"]
fn eight_writers_on_a_bucket_have_one_winner_each() {
    let world = World::at(crate::scratch::Scratch::new(), place("race"));
    let base = files([("base", "0")]);
    world.push("alt", &base);
    let numbers: std::collections::BTreeSet<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (world, base) = (&world, &base);
                scope.spawn(move || {
                    let target = with(base, [(&format!("by/{writer}"), Some("x"))]);
                    let resolution = bakery::graft::Resolution::Refuse;
                    world
                        .try_push("alt", Some(1), &target, resolution)
                        .unwrap()
                        .number()
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    assert_eq!(numbers, (2..10).collect());
    world.assert_sound();
}

/// Two bakers on one cluster, each at its own gateway, while a volume server dies: acknowledged
/// pushes are published exactly once, and all objects are intact.
#[test]
#[ignore = "needs a cluster of SeaweedFS: make test-s3-cluster"]
fn two_bakers_survive_the_death_of_a_volume_server() {
    const UPLOADS: usize = 8;
    let world = World::at(crate::scratch::Scratch::new(), place("cluster"));
    world.push("kiosk", &files([("etc/motd", "1")]));
    let variable = |name: &str| std::env::var(name).expect("run this through make test-s3-cluster");
    let gateways = [variable("AWS_ENDPOINT"), variable("LAYERFS_TEST_S3_SECOND")];
    let bakery = |gateway: &str| {
        let mut command = Command::new(program("bakery"));
        command
            .env("AWS_ENDPOINT", gateway)
            .arg("--keys")
            .arg(world.keys().directory());
        command.args(["--store", world.location()]);
        command
    };
    let spools: Vec<_> = (0..2)
        .map(|n| world.dir.path().join(format!("spool-{n}")))
        .collect();
    let drop_into = |spool: &Path, name: &str| {
        let place = spool.join("incoming/kiosk");
        std::fs::create_dir_all(&place).unwrap();
        // Incompressible, so that it is more than the metadata.
        let content: Vec<u8> = (0..4096)
            .flat_map(|n| *blake3::hash(format!("{name}{n}").as_bytes()).as_bytes())
            .collect();
        std::fs::write(place.join(format!("{name}.part")), upload(name, &content)).unwrap();
        std::fs::rename(
            place.join(format!("{name}.part")),
            place.join(format!("{name}.tar.zst")),
        )
        .unwrap();
    };
    for (n, spool) in spools.iter().enumerate() {
        for upload in 0..UPLOADS / 2 {
            drop_into(spool, &format!("before-{n}-{upload}"));
        }
    }
    let watchers: Vec<_> = gateways
        .iter()
        .zip(&spools)
        .map(|(gateway, spool)| {
            let mut command = bakery(gateway);
            command
                .arg("watch")
                .args(["--settle", "50", "--rescan", "1", "--spool"])
                .arg(spool);
            Running::start(&mut command)
        })
        .collect();
    let done = |spool: &Path| std::fs::read_dir(spool.join("done")).map_or(0, Iterator::count);
    wait_until(LONG, || spools.iter().any(|spool| done(spool) > 0));
    run(Command::new("kill").args(["-9", &variable("LAYERFS_TEST_S3_VICTIM")]));
    for (n, spool) in spools.iter().enumerate() {
        for upload in 0..UPLOADS / 2 {
            drop_into(spool, &format!("after-{n}-{upload}"));
        }
    }
    wait_until(LONG, || spools.iter().all(|spool| done(spool) == UPLOADS));
    for watcher in watchers {
        assert!(watcher.terminate());
    }
    let history = world.history();
    assert_eq!(
        history.newest(&name("kiosk")).unwrap(),
        Some(1 + 2 * UPLOADS as u64)
    );
    let head = history.require_head(&name("kiosk")).unwrap();
    assert_eq!(world.files(&head).len(), 1 + 2 * UPLOADS);
    for gateway in &gateways {
        run(bakery(gateway).args(["verify", "--all"]));
    }
}

/// Any number of servers on one bucket: all of them show every published revision.
#[test]
#[ignore = "needs SeaweedFS: make test-s3"]
fn servers_before_one_bucket_answer_alike() {
    let world = World::at(crate::scratch::Scratch::new(), place("serve"));
    let base = files([("etc/motd", "1")]);
    world.push("kiosk", &base);
    let second = std::env::var("LAYERFS_TEST_S3_SECOND").unwrap();
    let gateways = [std::env::var("AWS_ENDPOINT").unwrap(), second];
    let servers: Vec<_> = gateways
        .iter()
        .map(|gateway| {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = port.local_addr().unwrap().to_string();
            drop(port);
            let mut command = Command::new(program("bakery"));
            command.env("AWS_ENDPOINT", gateway).arg("--store");
            command
                .arg(world.location())
                .args(["serve", "--listen", &address]);
            (Running::start(&mut command), format!("http://{address}"))
        })
        .collect();
    let get = |server: &str, path: &str, range: &str| {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--retry",
            "20",
            "--retry-connrefused",
            "--retry-delay",
            "1",
        ]);
        run(curl
            .args(["--fail", "-r", range])
            .arg(format!("{server}{path}")))
        .stdout
    };
    let two = world.push("kiosk", &with(&base, [("etc/motd", Some("2"))]));
    let layer = &two.manifest.layers[1];
    let path = format!("/layers/{}.layer", layer.digest);
    for (_, server) in &servers {
        let bundle =
            wire::trust::Bundle::parse(&get(server, "/v1/bundle/kiosk/main", "0-")).unwrap();
        let head = wire::manifest::Head::parse(bundle.head.payload.as_bytes()).unwrap();
        assert_eq!(head.revision, 2, "{server}");
        let whole = get(server, &path, "0-");
        assert_eq!(whole.len() as u64, layer.len);
        assert_eq!(get(server, &path, "10-99"), whole[10..100]);
    }
}
