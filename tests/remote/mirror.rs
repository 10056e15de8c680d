//! `bakery mirror`, `export` and `import-store` (`docs/PROTOCOL.md` §8): a store that follows
//! another one, over lines that break and processes that are killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use wire::paths::ObjectPath;

use super::client::Client;
use super::faults::{Fault, FaultServer};
use super::site::{SYSTEM, Site};
use super::updates::pack;
use crate::test_bakery::{program, text};

/// A mirror of a site in its own directory.
pub(super) struct Place {
    pub(super) store: PathBuf,
    pub(super) signers: PathBuf,
}

impl Place {
    pub(super) fn new(site: &Site) -> Place {
        Place {
            store: site.path("mirror"),
            signers: site.allowed_signers(),
        }
    }

    fn bakery(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("bakery"));
        command.arg("--store").arg(&self.store).args(words);
        command.stdin(Stdio::null());
        command
    }

    pub(super) fn mirror(&self, url: &str, more: &[&str]) -> Command {
        let signers = self.signers.to_str().unwrap();
        let words = [
            "mirror",
            url,
            SYSTEM,
            "--once",
            "--json",
            "--allowed-signers",
            signers,
        ];
        self.bakery(&[&words[..], more].concat())
    }

    /// One round; returns its report.
    pub(super) fn round(&self, url: &str, more: &[&str]) -> serde_json::Value {
        let output = self.mirror(url, more).output().unwrap();
        assert!(output.status.success(), "{}", messages(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Verifies every byte of the mirror, and that each of its heads has all its objects.
    pub(super) fn verify(&self) {
        let output = self.bakery(&["verify", "--all"]).output().unwrap();
        assert!(output.status.success(), "{}", messages(&output));
    }

    pub(super) fn heads(&self) -> usize {
        let heads = self.store.join("refs").join(SYSTEM).join("main");
        std::fs::read_dir(heads).map_or(0, Iterator::count)
    }
}

fn messages(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// A mirror is a store of its own; its clients verify with the same keys; the next round brings
/// only what is new.
#[test]
fn a_mirror_stands_alone_and_follows() {
    let mut site = Site::new();
    site.change(1);
    let server = FaultServer::start(site.store());
    let place = Place::new(&site);
    // A hint can be missing: then the heads are found one by one.
    let hint = ObjectPath::Hint(Site::name()).to_string();
    std::fs::remove_file(site.store().join(hint)).unwrap();
    let first = place.round(&server.url(), &[]);
    assert_eq!(first["revisions"], 2, "{first}");
    place.verify();
    let again = place.round(&server.url(), &[]);
    assert_eq!(
        (&again["revisions"], &again["objects"]),
        (&0.into(), &0.into())
    );
    site.change(2);
    let next = place.round(&server.url(), &[]);
    assert_eq!(next["revisions"], 1, "{next}");
    place.verify();
    drop(server);
    let own = FaultServer::start(place.store.clone());
    let url = format!("{}/{SYSTEM}", own.url());
    let client = Client::mount(&url, &site.allowed_signers(), &[]);
    client.compare(&site.files);
}

/// Chunks of the revision that the mirror has, and those that an update pack makes, are not
/// fetched; the mirror offers the update pack to its own clients.
#[test]
fn a_mirror_uses_update_packs() {
    let mut site = Site::baked();
    let server = FaultServer::start(site.store());
    let place = Place::new(&site);
    place.round(&server.url(), &[]);
    site.change(1);
    let bytes = pack(&site, 1, 2).bytes;
    let round = place.round(&server.url(), &[]);
    place.verify();
    let made = round["made_by_updates"].as_u64().unwrap();
    let received = round["received"].as_u64().unwrap();
    assert!(made > bytes, "{bytes}: {round}");
    // Sections of the layer, the index, the records and the pack.
    assert!(received < bytes + 40_000, "{bytes}: {round}");
    assert!(received * 4 < round["bytes"].as_u64().unwrap(), "{round}");
    let offered = wire::paths::ObjectPath::Update(Site::name(), 2, 1).to_string();
    let same = std::fs::read(site.store().join(&offered)).unwrap();
    assert_eq!(std::fs::read(place.store.join(&offered)).unwrap(), same);
}

/// A line that breaks again and again: the mirror continues at the break.
#[test]
fn a_broken_line_only_costs_time() {
    let mut site = Site::new();
    site.change(1);
    let server = FaultServer::start(site.store());
    for cut in [30_011, 250_007] {
        server.fail(Fault::ResetAfter(cut), "/", u64::MAX);
        let place = Place {
            store: site.path(&format!("mirror{cut}")),
            signers: site.allowed_signers(),
        };
        place.round(&server.url(), &[]);
        assert!(server.faults() > 10);
        place.verify();
        assert_eq!(place.heads(), 2);
    }
}

/// Damaged bytes, another bakery's keys and another history are refused; nothing of them is stored.
#[test]
fn what_is_not_valid_is_refused() {
    let mut site = Site::new();
    let server = FaultServer::start(site.store());
    let place = Place::new(&site);
    server.fail(Fault::Corrupt, "/layers", u64::MAX);
    let output = place.mirror(&server.url(), &[]).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(place.heads(), 0, "{}", messages(&output));
    server.behave();
    place.round(&server.url(), &[]);
    place.verify();
    // The keys of somebody else.
    let other = Site::new();
    let stranger = Place {
        store: site.path("stranger"),
        signers: other.allowed_signers(),
    };
    let output = stranger.mirror(&server.url(), &[]).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(stranger.heads(), 0, "{}", messages(&output));
    // Another history under the same name, signed by keys that the mirror does not trust.
    let elsewhere = FaultServer::start(other.store());
    let output = place.mirror(&elsewhere.url(), &[]).output().unwrap();
    assert!(!output.status.success(), "{}", messages(&output));
    site.change(1);
    place.round(&server.url(), &[]);
    place.verify();
    assert_eq!(place.heads(), 2);
}

/// "Histories as one file": an export, and one with only what is new, taken into another store.
#[test]
fn an_export_is_taken_into_another_store() {
    let mut site = Site::baked();
    let place = Place::new(&site);
    let file = |name: &str| site.path(name).to_str().unwrap().to_owned();
    let [whole, delta, small] = ["whole.tar", "delta.tar", "small.tar"].map(file);
    let store = site.store();
    let command = |words: &[&str]| {
        let mut command = Command::new(program("bakery"));
        let output = command.arg("--store").arg(&store).args(words).output();
        output.unwrap()
    };
    let export = |words: &[&str]| {
        let output = command(words);
        assert!(output.status.success(), "{}", messages(&output));
    };
    let signers = site.allowed_signers().to_str().unwrap().to_owned();
    let take = |file: &str| {
        let words = ["import-store", file, "--allowed-signers", &signers];
        let output = place.bakery(&words).output().unwrap();
        assert!(output.status.success(), "{}", messages(&output));
    };
    export(&["export", &whole, SYSTEM]);
    take(&whole);
    place.verify();
    site.change(1);
    export(&["export", &delta, SYSTEM, "--since", "1"]);
    export(&["export", &whole, SYSTEM]);
    let len = |path: &str| std::fs::metadata(Path::new(path)).unwrap().len();
    assert!(len(&delta) < len(&whole));
    take(&delta);
    place.verify();
    assert_eq!(place.heads(), 2);
    // With an update pack, the chunks that it makes are not in the file.
    site.change(2);
    let refused = command(&["export", &small, SYSTEM, "--since", "2", "--delta"]);
    assert!(!refused.status.success());
    assert!(
        text(&refused.stderr).contains("update-pack"),
        "{}",
        messages(&refused)
    );
    let made = pack(&site, 2, 3);
    export(&["export", &delta, SYSTEM, "--since", "2"]);
    export(&["export", &small, SYSTEM, "--since", "2", "--delta"]);
    assert!(
        len(&small) + 2 * made.bytes < len(&delta),
        "{} {}",
        len(&small),
        len(&delta)
    );
    take(&small);
    place.verify();
    assert_eq!(place.heads(), 3);
    // Also from an older revision than the reader has.
    site.change(3);
    pack(&site, 2, 4);
    export(&["export", &small, SYSTEM, "--since", "2", "--delta"]);
    take(&small);
    place.verify();
    assert_eq!(place.heads(), 4);
    // A file that is none.
    let output = place
        .bakery(&["import-store", &signers, "--allowed-signers", &signers])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("allowed_signers"),
        "{}",
        messages(&output)
    );
}
