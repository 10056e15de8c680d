//! The database of the fleet in PostgreSQL: the cases of SQLite, and those of several processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]

#[path = "cases/judge.rs"]
mod judge;
#[path = "cases/keys.rs"]
mod keys;
#[path = "cases/server.rs"]
mod server;
#[path = "cases/store.rs"]
mod store;
#[path = "cases/switched.rs"]
mod switched;

use std::os::unix::fs::PermissionsExt as _;

use fleet::store::{Database, Filter, FleetMessage, Proof};
use wire::hello::{Hello, Step};
use wire::machine::Identity;

use crate::server::server;

/// What the cases need of the engine.
mod engine {
    use std::path::Path;

    use crate::server::server;

    /// A spool with the URL of an empty database.
    pub(crate) fn spool() -> tempfile::TempDir {
        let spool = tempfile::tempdir().unwrap();
        std::fs::create_dir(spool.path().join(fleet::store::DIRECTORY)).unwrap();
        fleet::store::set_url(spool.path(), &server().new_database()).unwrap();
        spool
    }

    /// The name of the database of a spool.
    pub(crate) fn name(spool: &Path) -> String {
        let url = std::fs::read_to_string(spool.join("fleet/database.url")).unwrap();
        let (_, rest) = url.split_once(":///").unwrap();
        rest.split('?').next().unwrap().to_owned()
    }

    /// Sets the version of the schema.
    pub(crate) fn set_version(spool: &Path, version: u32) {
        let sql = format!("UPDATE fleet.schema_version SET version = {version}");
        assert!(server().psql(&name(spool), &sql));
    }
}

fn hello(machine: u32) -> FleetMessage {
    let uuid = format!("{machine:08x}-1111-4222-8333-444455556666");
    let who = Identity::of_words(&uuid, "", "");
    FleetMessage::Hello {
        hello: Box::new(Hello::new(who, Step::Menu)),
        from: "10.0.0.1".into(),
        proof: Proof::default(),
    }
}

/// docs/FLEET.md F1.6: the connection opens again after a loss; nothing of the interrupted
/// transaction is stored.
#[test]
fn a_lost_connection_opens_again() {
    let spool = engine::spool();
    let mut store = Database::create(spool.path()).unwrap();
    store.hear(&[hello(1)], 1000).unwrap();
    server().cut(&engine::name(spool.path()));
    // The first call may meet the loss.
    let again = store.hear(&[hello(2)], 1001);
    if again.is_err() {
        store.hear(&[hello(2)], 1001).unwrap();
    }
    server().cut(&engine::name(spool.path()));
    let listed = store.machines(&Filter::default(), 1002);
    let listed = listed
        .or_else(|_| store.machines(&Filter::default(), 1002))
        .unwrap();
    assert_eq!(listed.len(), 2);
}

/// F1.6: several processes write at the same time; each machine is there once.
#[test]
fn several_processes_share_the_database() {
    let spool = engine::spool();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut store = Database::create(spool.path()).unwrap();
                for machine in 0..40 {
                    store.hear(&[hello(machine)], 1000).unwrap();
                }
            });
        }
    });
    let store = Database::open(spool.path()).unwrap();
    assert_eq!(store.machines(&Filter::default(), 1001).unwrap().len(), 40);
}

/// F1.6: only the owner may read the URL, which may have a password. A URL that cannot be used
/// changes nothing.
#[test]
fn the_url_is_private_and_is_tried() {
    let spool = engine::spool();
    let file = spool.path().join("fleet/database.url");
    let before = std::fs::read_to_string(&file).unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (url, said) in [
        ("mysql://x/y", "begins with postgres://"),
        (
            "postgres://fleet@127.0.0.1:1/fleet?connect_timeout=2",
            "the fleet database",
        ),
        ("postgres://fleet@127.0.0.1/fleet?sslmode=require", "no TLS"),
        ("postgres://fleet@127.0.0.1/fleet?nonsense=1", "not valid"),
    ] {
        let error = fleet::store::set_url(spool.path(), url).unwrap_err();
        assert!(error.to_string().contains(said), "{url}: {error}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}
