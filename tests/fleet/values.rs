//! The machine layer with real mounts, and the proofs of hellos.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use wire::hello::Step;
use wire::machine_key::{SecretKey, unhex};
use wire::proof::{RoomToken, append};

use crate::client::{Mount, only};
use crate::harness::programs::program;
use crate::site::{Site, UUID, hello};
use crate::test_bakery::{run, text};

const SECRET: &str = "hunter2-is-a-long-secret";

/// This computer as a machine of the site, with a disk for its cache.
struct Pc {
    site: Site,
    id: String,
}

impl Pc {
    /// A machine whose key the operator has accepted.
    fn new() -> Pc {
        let site = Site::new();
        let mount = Mount::new(&site, &options(&site, "disk", ""));
        let machine = only(&site);
        let id = machine["id"].as_str().unwrap().to_owned();
        let offered = site.machine(&["key", &id])["offered"].clone();
        let status = run(Command::new(program("layerfs"))
            .args(["status", "--json"])
            .arg(&mount.at));
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status["source"]["machine_key"], offered, "{status}");
        let fingerprint = offered.as_str().unwrap().to_owned();
        let pc = Pc { site, id };
        let early = pc.secret("wifi");
        assert!(early.contains("no accepted key"), "{early}");
        let accepted = pc.site.machine(&["key", &pc.id, "--accept", &fingerprint]);
        assert_eq!(accepted["accepted"], fingerprint);
        pc
    }

    fn values(&self, arguments: &[&str]) -> Value {
        self.site
            .machine(&[&["values", self.id.as_str()], arguments].concat())
    }

    /// Sets a secret; the error text of the program.
    fn secret(&self, name: &str) -> String {
        let mut child = self
            .site
            .bakery
            .command()
            .args(["machine", "values", &self.id, "--secret", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{SECRET}").unwrap();
        text(&child.wait_with_output().unwrap().stderr)
    }

    /// Mounts with the cache on a disk, and the values of this machine.
    fn boots(&self, disk: &str, number: u64) -> Mount {
        let values = format!(",values={}:{number}", self.id);
        Mount::new(&self.site, &options(&self.site, disk, &values))
    }

    fn running(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.site.bakery.path("running").join(name)).ok()
    }
}

fn options(site: &Site, disk: &str, more: &str) -> String {
    let path = |name: &str| site.bakery.path(name).display().to_string();
    format!(
        ",cache={},values-dir={},offline-wait=1{more}",
        path(disk),
        path("running")
    )
}

fn read(mount: &Mount, path: &str) -> Option<String> {
    std::fs::read_to_string(mount.at.join(path)).ok()
}

/// True if a file below a directory has these bytes.
fn has_bytes(directory: &Path, bytes: &[u8]) -> Option<PathBuf> {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let found = match path.is_dir() {
            true => has_bytes(&path, bytes),
            false => std::fs::read(&path)
                .unwrap_or_default()
                .windows(bytes.len())
                .any(|part| part == bytes)
                .then_some(path),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// F12.1 to F12.6: the values of a machine reach its root as a signed record, which is changed and
/// rolled back. An old record is refused.
#[test]
fn values_reach_their_machine_and_go_back() {
    let pc = Pc::new();
    let first = pc.values(&["--set", "hostname=pc17", "--set", "desk=4", "-m", "first"]);
    assert_eq!(first["records"][0]["number"], 1);
    let card = only(&pc.site)["macs"][0].as_str().unwrap().to_owned();
    let menu = pc
        .site
        .get(&format!("/boot.ipxe?uuid=&mac={card}&asset="))
        .body;
    assert!(
        menu.contains(&format!("layerfs.values={}:1", pc.id)),
        "{menu}"
    );
    let mount = pc.boots("disk", 1);
    assert_eq!(read(&mount, "etc/hostname").as_deref(), Some("pc17\n"));
    assert_eq!(pc.running("desk").as_deref(), Some("4"));
    drop(mount);
    let second = pc.values(&["--set", "hostname=pc18", "--delete", "desk"]);
    assert_eq!(second["records"][0]["number"], 2);
    // The announced number is a hint; the client finds the newest record.
    let mount = pc.boots("disk", 1);
    assert_eq!(read(&mount, "etc/hostname").as_deref(), Some("pc18\n"));
    assert_eq!(pc.running("desk"), None);
    drop(mount);
    let third = pc.values(&["--to", "1"]);
    assert_eq!(third["records"][0]["number"], 3);
    assert_eq!(third["effective"], first["effective"]);
    let mount = pc.boots("disk", 3);
    assert_eq!(read(&mount, "etc/hostname").as_deref(), Some("pc17\n"));
    drop(mount);
    // A server with an old copy, or one that announces an old number.
    let records = pc.site.bakery.store().join("values").join(&pc.id);
    let record = |number: u64| records.join(format!("{number:020}"));
    let (second, third) = (
        std::fs::read(record(2)).unwrap(),
        std::fs::read(record(3)).unwrap(),
    );
    std::fs::remove_file(record(3)).unwrap();
    let mount = pc.boots("disk", 2);
    assert_eq!(read(&mount, "etc/hostname").as_deref(), Some("pc17\n"));
    drop(mount);
    // The old record under the new number.
    std::fs::write(record(3), &second).unwrap();
    let mount = pc.boots("disk", 3);
    assert_eq!(read(&mount, "etc/hostname").as_deref(), Some("pc17\n"));
    drop(mount);
    // A changed record is not signed.
    let forged = text(&third).replace("pc17", "evil");
    std::fs::write(record(3), forged).unwrap();
    let mount = pc.boots("other-disk", 3);
    assert_ne!(read(&mount, "etc/hostname").as_deref(), Some("evil\n"));
    drop(mount);
    // A group gives its values to its machines; the machine's own have precedence.
    std::fs::write(record(3), &third).unwrap();
    let group = pc.site.machine(&[
        "values",
        "--group",
        "room",
        "--set",
        "hostname=room",
        "--set",
        "desk=9",
    ]);
    assert_eq!(group["records"], serde_json::json!([]), "an empty group");
    pc.site.machine(&["group", &pc.id, "room"]);
    let newest = || pc.values(&[])["records"][0].clone();
    assert_eq!(newest()["number"], 3, "the machine has both itself");
    pc.site
        .machine(&["values", "--group", "room", "--set", "floor=2"]);
    let effective = pc.values(&[])["effective"].clone();
    assert_eq!(effective["hostname"]["text"], "pc17");
    assert_eq!(effective["floor"]["text"], "2");
    assert_eq!(newest()["number"], 4);
    pc.site.machine(&["group", &pc.id]);
    assert_eq!(newest()["number"], 5);
    assert!(newest()["values"]["floor"].is_null());
    pc.site.machine(&["group", &pc.id, "room"]);
    assert_eq!(newest()["values"]["floor"]["text"], "2");
    let mount = pc.boots("disk", 6);
    assert_eq!(pc.running("floor").as_deref(), Some("2"));
    drop(mount);
}

/// F12.2, F12.4: without a key of the bakery to sign them, values do not change; a secret leaves
/// the newest record with the key that it was sealed to.
#[test]
fn a_record_follows_group_and_key() {
    let pc = Pc::new();
    assert_eq!(pc.secret("wifi"), "");
    pc.site
        .machine(&["values", "--group", "room", "--set", "floor=2"]);
    let absent = pc.site.bakery.path("absent");
    for [action, change] in [["group", "room"], ["key", "--remove"]] {
        let mut command = pc.site.bakery.command();
        command.arg("--keys").arg(&absent);
        let refused = command.args(["machine", action, &pc.id, change]).output();
        assert!(!refused.unwrap().status.success(), "{action}");
    }
    let shown = pc.values(&[]);
    assert!(shown["effective"]["floor"].is_null(), "{shown}");
    assert!(shown["own"]["wifi"]["sealed"].is_string(), "{shown}");
    pc.site.machine(&["key", &pc.id, "--remove"]);
    let shown = pc.values(&[]);
    assert_eq!(shown["records"][0]["number"], 2, "{shown}");
    assert!(shown["records"][0]["values"]["wifi"].is_null(), "{shown}");
}

/// F12.2: clients accept values after the key that signed them has ended.
#[test]
fn values_outlive_the_key_that_signed_them() {
    let pc = Pc::new();
    pc.values(&["--set", "hostname=pc17"]);
    run(pc.site.bakery.command().args(["key", "rotate"]));
    let mount = pc.boots("new-disk", 1);
    assert_eq!(read(&mount, "etc/hostname").as_deref(), Some("pc17\n"));
    drop(mount);
    let record = pc.values(&[])["records"][0].clone();
    assert_eq!(record["number"], 2);
    assert_eq!(record["message"], "signed again");
}

/// F12.4: no request, and no file of the server, has the plaintext of a secret; a machine without
/// the key, such as a clone on other disks, does not read it.
#[test]
fn a_secret_is_read_by_its_machine_only() {
    let pc = Pc::new();
    assert_eq!(pc.secret("wifi"), "");
    pc.values(&["--set", "desk=4"]);
    let mount = pc.boots("disk", 1);
    assert_eq!(pc.running("wifi").as_deref(), Some(SECRET));
    assert_eq!(pc.running("desk").as_deref(), Some("4"));
    drop(mount);
    // The clone has the same UUID and cards, but another disk.
    let clone = pc.boots("disk-of-a-clone", 1);
    assert_eq!(pc.running("wifi"), None);
    assert_eq!(pc.running("desk").as_deref(), Some("4"));
    drop(clone);
    assert_eq!(
        only(&pc.site)["forged_seen"].as_i64().map(|at| at > 0),
        Some(true)
    );
    for place in [pc.site.bakery.store(), pc.site.bakery.spool()] {
        assert_eq!(has_bytes(&place, SECRET.as_bytes()), None);
    }
    let served = pc.site.get(&format!("/values/{}/{:020}", pc.id, 2)).body;
    assert!(
        served.contains("sealed") && !served.contains(SECRET),
        "{served}"
    );
    let sealed = pc.values(&[])["effective"]["wifi"]["sealed"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = SecretKey::of(&[5; 32]);
    let name = format!("{}/wifi", pc.id);
    assert!(other.open(&name, &unhex(&sealed).unwrap()).is_err());
    for path in [
        "/menu",
        "/machines",
        "/fleet.sqlite",
        "/values",
        &format!("/values/{}", pc.id),
    ] {
        let answer = pc.site.get(path);
        assert!(
            answer.status >= 400 && !answer.body.contains(SECRET),
            "{path}"
        );
    }
    // A machine takes no other machine's record.
    let mount = Mount::new(
        &pc.site,
        &options(&pc.site, "disk", &format!(",values={UUID}:1")),
    );
    assert_eq!(read(&mount, "etc/hostname"), None);
}

/// F7.3: hellos without the signature of the accepted key are refused and reported.
#[test]
fn a_forged_hello_of_a_keyed_machine_is_refused() {
    let pc = Pc::new();
    let mount = Mount::new(&pc.site, &options(&pc.site, "disk", ""));
    mount.hello(&[]);
    assert!(only(&pc.site)["forged_seen"].is_null());
    let machine = only(&pc.site);
    let mut forged = hello(Step::Target, "f0");
    forged.machine = serde_json::from_value(machine["boot"]["hello"]["machine"].clone()).unwrap();
    let stranger = SecretKey::of(&[5; 32]);
    for key in [None, Some(&stranger)] {
        forged.key = key.map(SecretKey::public);
        let body = append(forged.encode().unwrap(), None, key);
        assert_eq!(pc.site.ask("POST", "/v1/hello", &body).status, 403);
    }
    let after = only(&pc.site);
    assert_eq!(after["boot"], machine["boot"]);
    assert!(
        pc.site
            .words(&["list", "--doubtful"])
            .contains("FORGED HELLO")
    );
    let metrics = pc.site.get("/metrics").body;
    assert!(
        metrics.contains("hellos_refused_total{why=\"proof\"} 2\n"),
        "{metrics}"
    );
}

/// F7.2: with a room token, the process refuses hellos without it.
#[test]
fn a_room_token_keeps_strangers_out() {
    let mut site = Site::new();
    site.fleet.take().unwrap().kill();
    let file = site.bakery.path("token");
    std::fs::write(&file, "correct horse battery staple\n").unwrap();
    site.start_fleet(&["--token-file", file.to_str().unwrap()]);
    let body = |token: &str| {
        let token = RoomToken::of(token);
        append(
            hello(Step::Mounted, "a1").encode().unwrap(),
            token.as_ref(),
            None,
        )
    };
    assert_eq!(site.say(&hello(Step::Mounted, "a1")), 403);
    assert_eq!(
        site.ask("POST", "/v1/hello", &body("wrong horse battery staple"))
            .status,
        403
    );
    assert!(site.machine(&["list"]).as_array().unwrap().is_empty());
    assert_eq!(
        site.ask("POST", "/v1/hello", &body("correct horse battery staple"))
            .status,
        204
    );
    assert_eq!(site.machine(&["list"]).as_array().unwrap().len(), 1);
    // A real mount has the token on its disk.
    let disk = site.bakery.path("disk/machine-1");
    std::fs::create_dir_all(&disk).unwrap();
    std::fs::copy(&file, disk.join("token")).unwrap();
    let mount = Mount::new(&site, &options(&site, "disk", ""));
    mount.hello(&[]);
    assert_eq!(site.machine(&["list"]).as_array().unwrap().len(), 2);
    std::fs::write(&file, "short").unwrap();
    let mut short = site.bakery.command();
    let said = short
        .args(["fleet", "--token-file"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(text(&said.stderr).contains("at least 16 bytes"));
}
