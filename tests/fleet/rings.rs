//! Rings over real HTTP: menus, real mounts, and the maintenance of the store (F9).

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::programs::program;
use crate::site::{Site, UUID};
use crate::test_bakery::{run, text, upload};

/// The first line of a push.
const OPENING: &str = "{\"version\":1}";

impl Site {
    /// Runs `bakery …`; returns its JSON output.
    pub(crate) fn bakery_json(&self, arguments: &[&str]) -> Value {
        let mut command = self.bakery.command();
        command.arg("--json").args(arguments);
        serde_json::from_slice(&run(&mut command).stdout).unwrap()
    }

    /// Publishes one more revision of kiosk.
    pub(crate) fn push(&self, cmdline: &str) {
        run(self
            .bakery
            .command()
            .args(["set", "kiosk", "--cmdline", cmdline]));
    }

    /// The first entry of the site's menu for a request.
    pub(crate) fn offered(&self, query: &str) -> String {
        let menu = self.get(&format!("/boot.ipxe{query}")).body;
        let entry = menu.lines().find(|line| line.starts_with("item e0 "));
        let words: Vec<&str> = entry.unwrap().split(' ').take(5).collect();
        words[2..].join(" ").trim_end_matches(',').to_owned()
    }
}

/// A machine with its own cache that mounts kiosk; the cache remembers what it has seen.
struct Client<'s> {
    site: &'s Site,
    cache: PathBuf,
}

impl<'s> Client<'s> {
    fn new(site: &'s Site) -> Client<'s> {
        let cache = site.bakery.path("client-cache");
        std::fs::create_dir_all(&cache).unwrap();
        Client { site, cache }
    }

    fn mount(&self, url: &str, options: &str) -> Output {
        let at = self.site.bakery.path("client-root");
        std::fs::create_dir_all(&at).unwrap();
        let keys = format!(
            "{}.keys/allowed_signers",
            self.site.bakery.store().display()
        );
        let mounted = Command::new(program("layerfs"))
            .args(["mount", "-o"])
            .arg(format!(
                "ro,keys={keys},cache={},report=no{options}",
                self.cache.display()
            ))
            .arg(url)
            .arg(&at)
            .output()
            .unwrap();
        if mounted.status.success() {
            let status = Command::new(program("layerfs"))
                .args(["status", "--json"])
                .arg(&at)
                .output()
                .unwrap();
            run(Command::new(program("layerfs")).arg("umount").arg(&at));
            return status;
        }
        mounted
    }

    /// The revision that the machine mounts.
    fn boots(&self, url: &str, options: &str) -> u64 {
        let status = self.mount(url, options);
        assert!(status.status.success(), "{}", text(&status.stderr));
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let named = status.pointer("/source/revision").and_then(Value::as_str);
        let named = named.unwrap_or_else(|| panic!("{status}"));
        named.rsplit('@').next().unwrap().parse().unwrap()
    }

    fn refusal(&self, url: &str, options: &str) -> String {
        let failed = self.mount(url, options);
        assert!(!failed.status.success(), "{}", text(&failed.stdout));
        text(&failed.stderr)
    }
}

/// F9.1, F9.2, F9.4: the menus follow machine, ring and revision; without rings everything is as
/// before.
#[test]
fn the_menus_follow_machine_ring_and_revision() {
    let site = Site::new();
    let machine = format!("?uuid={UUID}&mac=52-54-00-00-00-17&asset=");
    site.push("second");
    assert_eq!(site.offered(""), "kiosk revision 2");
    assert_eq!(site.bakery_json(&["ring", "list"]), serde_json::json!([]));
    let added = site.bakery_json(&["ring", "add", "kiosk", "canary", "-m", "first try"]);
    assert_eq!((&added["record"], &added["newest"]), (&1.into(), &2.into()));
    site.push("third");
    site.offered(&machine);
    site.machine(&["assign", UUID, "--ring", "canary"]);
    assert_eq!(site.offered(&machine), "kiosk revision 3");
    assert_eq!(
        site.offered("?uuid=&mac=52-54-00-00-00-18"),
        "kiosk revision 2"
    );
    assert_eq!(
        site.offered(""),
        "kiosk revision 2",
        "the plain menu is that of `all`"
    );
    for path in ["/ipxe/kiosk", "/grub.cfg", "/pxelinux.cfg/default"] {
        let menu = site.get(path).body;
        let at = |text: &str| menu.find(text).unwrap_or_else(|| panic!("{text}: {menu}"));
        let (second, third) = (at("kiosk revision 2"), at("kiosk revision 3"));
        assert!(second < third && at("kiosk revision 1") < third, "{menu}");
    }
    // A ring that this history does not have is `all`, and so is that of another history.
    site.machine(&["assign", UUID, "--ring", "nowhere"]);
    assert_eq!(site.offered(&machine), "kiosk revision 2");
    site.machine(&["assign", UUID, "--ring", "canary"]);
    // F9.5: an assigned revision has precedence.
    site.machine(&["assign", UUID, "--system", "kiosk@1"]);
    assert_eq!(site.offered(&machine), "kiosk revision 1");
    site.machine(&["assign", UUID, "--system", "kiosk"]);
    assert_eq!(site.offered(&machine), "kiosk revision 3");
    // A dry run creates nothing.
    let dry = site.bakery_json(&["ring", "promote", "kiosk", "all", "--dry-run"]);
    assert_eq!(
        (&dry["record"], &dry["rings"][1]["revision"]),
        (&2.into(), &3.into())
    );
    assert_eq!(site.offered(""), "kiosk revision 2");
    site.bakery_json(&["ring", "promote", "kiosk", "all"]);
    assert_eq!(site.offered(""), "kiosk revision 3");
    site.bakery_json(&["ring", "pause", "kiosk", "canary"]);
    site.push("fourth");
    assert_eq!(site.offered(&machine), "kiosk revision 3");
    site.bakery_json(&["ring", "resume", "kiosk", "canary"]);
    assert_eq!(site.offered(&machine), "kiosk revision 4");
    // F11.7: a quarantine takes the ring back; a later revision is not affected.
    site.bakery_json(&["ring", "quarantine", "kiosk@4"]);
    assert_eq!(site.offered(&machine), "kiosk revision 3");
    site.push("fifth");
    assert_eq!(site.offered(&machine), "kiosk revision 5");
    let log = site.bakery_json(&["ring", "log", "kiosk"]);
    let actions: Vec<&str> = (log.as_array().unwrap().iter())
        .map(|record| record["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["quarantine", "resume", "pause", "promote", "add"]);
    let wrong = site
        .bakery
        .command()
        .args(["ring", "promote", "kiosk@4", "all"])
        .output()
        .unwrap();
    assert!(
        text(&wrong.stderr).contains("is quarantined"),
        "{}",
        text(&wrong.stderr)
    );
}

/// docs/PROTOCOL.md R5 to R8, with real mounts: the client follows its ring, and refuses a replayed
/// or withheld ring record. F9.6: so does a client of a server of plain files.
#[test]
fn a_mount_follows_its_ring_and_refuses_a_replay() {
    let site = Site::with(&[], &[]);
    let plain = PlainServer::start(&site.bakery.store());
    let urls = [
        format!("http://{}/kiosk", site.address),
        format!("{}/kiosk", plain.url),
    ];
    for url in &urls {
        let _ = std::fs::remove_dir_all(site.bakery.path("client-cache"));
        let client = Client::new(&site);
        let first = site
            .bakery
            .history()
            .newest(&"kiosk".parse().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(client.boots(url, ""), first, "without rings: the newest");
        site.bakery_json(&["ring", "add", "kiosk", "canary"]);
        site.push(&format!("next of {first}"));
        assert_eq!(client.boots(url, ""), first);
        assert_eq!(client.boots(url, ",ring=none"), first);
        assert_eq!(client.boots(url, ",ring=canary"), first + 1);
        site.bakery_json(&["ring", "quarantine", &format!("kiosk@{}", first + 1)]);
        assert_eq!(client.boots(&format!("{url}@{}", first + 1), ""), first + 1);
        assert_eq!(client.boots(url, ",ring=canary"), first);
        // The server loses the newest ring record, or all of them.
        let rings = site.bakery.store().join("rings/kiosk/main");
        let (one, all) = (site.bakery.path("one-ring"), site.bakery.path("all-rings"));
        let names = std::fs::read_dir(&rings).unwrap();
        let newest = names.map(|entry| entry.unwrap().path()).max().unwrap();
        std::fs::rename(&newest, &one).unwrap();
        let replayed = client.boots(url, ",ring=canary,offline-wait=1");
        assert_eq!(replayed, first, "it starts from its own records instead");
        let kept = client.cache.join("records-1/kiosk/main/bundle");
        let bundle = std::fs::read(&kept).unwrap();
        std::fs::remove_file(&kept).unwrap();
        let refused = client.refusal(url, ",ring=canary");
        assert!(refused.contains("offers ring record"), "{refused}");
        std::fs::rename(&rings, &all).unwrap();
        let refused = client.refusal(url, "");
        assert!(refused.contains("offers ring record 0"), "{refused}");
        std::fs::rename(&all, &rings).unwrap();
        std::fs::rename(&one, &newest).unwrap();
        std::fs::write(&kept, bundle).unwrap();
        assert_eq!(client.boots(url, ""), first);
        // Begin the next round without rings that move.
        site.bakery_json(&["ring", "release", &format!("kiosk@{}", first + 1)]);
        site.bakery_json(&["ring", "remove", "kiosk", "canary"]);
        assert_eq!(
            client.boots(url, ""),
            first,
            "F9.7: the next ring is paused"
        );
        let resumed = site
            .bakery
            .command()
            .args(["ring", "resume", "kiosk", "all"])
            .output()
            .unwrap();
        assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    }
}

/// A web server of plain files over a store.
struct PlainServer {
    url: String,
    _running: crate::test_bakery::Running,
}

impl PlainServer {
    fn start(store: &Path) -> PlainServer {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let place = store.with_file_name("nginx");
        std::fs::create_dir_all(&place).unwrap();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {}/{name};\n", place.display()))
            .concat();
        let whole = format!(
            "daemon off; master_process off; user root; pid {0}/pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off;\n{temporary}server {{ listen 127.0.0.1:{port}; root {1}; }} }}\n",
            place.display(),
            store.display()
        );
        std::fs::write(place.join("nginx.conf"), whole).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(place.join("nginx.conf"));
        let running = crate::test_bakery::Running::start(&mut command);
        crate::test_bakery::wait_until(std::time::Duration::from_secs(30), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        PlainServer {
            url: format!("http://127.0.0.1:{port}"),
            _running: running,
        }
    }
}

/// F9.6: gc keeps the revision of a ring, verify checks the records, a copy has them, and a rotation
/// signs them again.
#[test]
fn maintenance_knows_the_rings() {
    let site = Site::with(&[], &[]);
    let bakery = |arguments: &[&str]| {
        let mut command = site.bakery.command();
        command.args(arguments);
        run(&mut command)
    };
    bakery(&["ring", "add", "kiosk", "canary"]);
    for name in ["two", "three"] {
        let body = upload(name, name.as_bytes());
        site.bakery.receive("kiosk", OPENING, &body).unwrap();
        site.bakery.drain();
    }
    bakery(&["compact", "kiosk"]);
    // Objects of revision 1 are needed by nothing but the ring.
    let swept = site.bakery_json(&["gc", "--keep-last", "1", "--grace", "0s"]);
    assert!(
        !swept["revisions_swept"]
            .as_array()
            .unwrap()
            .contains(&"kiosk@1".into()),
        "{swept}"
    );
    let verified = site.bakery_json(&["verify", "--all"]);
    assert_eq!(verified["ring_records"], 1);
    bakery(&["key", "rotate"]);
    let client = Client::new(&site);
    let url = format!("http://{}/kiosk", site.address);
    assert_eq!(
        client.boots(&url, ""),
        1,
        "R7: the record vouches for the head"
    );
    assert_eq!(client.boots(&format!("{url}@1"), ""), 1, "R9");
    let log = site.bakery_json(&["ring", "log", "kiosk"]);
    assert_eq!(log[0]["action"], "renew");

    let copy = site.bakery.path("copy");
    let store = site.bakery.store();
    bakery(&[
        "store",
        "copy",
        store.to_str().unwrap(),
        copy.to_str().unwrap(),
    ]);
    let newest = "rings/kiosk/main/00000000000000000002";
    let stored = std::fs::read(site.bakery.store().join(newest)).unwrap();
    assert_eq!(std::fs::read(copy.join(newest)).unwrap(), stored);

    // A changed record is a defect.
    let path = site
        .bakery
        .store()
        .join("rings/kiosk/main/00000000000000000001");
    let text_of = std::fs::read_to_string(&path).unwrap();
    let writable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&path, writable).unwrap();
    std::fs::write(&path, text_of.replace("canary", "kanary")).unwrap();
    let failed = site.bakery.command().arg("verify").output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        text(&failed.stdout).contains("previous ring record"),
        "{}",
        text(&failed.stdout)
    );
}

/// F10.2: the time of a policy is what the operator typed, and within the boots that count.
#[test]
fn a_policy_has_a_time_that_counts() {
    let site = Site::with(&[], &[]);
    let policy = |within: &str| {
        let mut command = site.bakery.command();
        command.args([
            "ring", "policy", "kiosk", "all", "--boots", "2", "--within", within,
        ]);
        command.output().unwrap()
    };
    run(site
        .bakery
        .command()
        .args(["ring", "add", "kiosk", "canary"]));
    for wrong in ["0s", "31d"] {
        let refused = policy(wrong);
        assert!(!refused.status.success(), "{wrong}");
        assert!(
            text(&refused.stderr).contains("at most 30d"),
            "{}",
            text(&refused.stderr)
        );
    }
    assert!(policy("90m").status.success());
    let list = run(site.bakery.command().args(["ring", "list", "kiosk"]));
    assert!(
        text(&list.stdout).contains("within 90m"),
        "{}",
        text(&list.stdout)
    );
}

/// A mirror and an export have the ring records: a machine that has seen one can use them.
#[test]
fn a_mirror_and_an_export_have_the_rings() {
    let site = Site::with(&[], &[]);
    let store = site.bakery.store();
    let keys = format!("{}.keys/allowed_signers", store.display());
    let bakery = |store: &Path, arguments: &[&str]| -> Value {
        let mut command = Command::new(program("bakery"));
        command.arg("--store").arg(store).arg("--json");
        let output = run(command.args(arguments));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    let (url, mirror) = (
        format!("http://{}", site.address),
        site.bakery.path("mirror"),
    );
    let round_with = |more: &[&str]| {
        let words = [
            "mirror",
            &url,
            "kiosk",
            "--once",
            "--allowed-signers",
            &keys,
        ];
        bakery(&mirror, &[&words[..], more].concat())["ring_records"].as_u64()
    };
    let round = || round_with(&[]);
    let record = |store: &Path, number: u64| {
        std::fs::read(store.join(format!("rings/kiosk/main/{number:020}")))
    };
    assert_eq!(round(), Some(0), "a history without rings");
    run(site
        .bakery
        .command()
        .args(["ring", "add", "kiosk", "canary"]));
    site.push("second");
    assert_eq!(round(), Some(1));
    run(site
        .bakery
        .command()
        .args(["ring", "promote", "kiosk", "all"]));
    assert_eq!((round(), round()), (Some(1), Some(0)));
    let verified = bakery(&mirror, &["verify", "--all"]);
    assert_eq!(verified["ring_records"], 2, "{verified}");
    // A history that is taken over: equal records stay, those that the origin lacks go.
    let later = mirror.join(format!("rings/kiosk/main/{:020}", 3));
    run(site
        .bakery
        .command()
        .args(["ring", "pause", "kiosk", "canary"]));
    assert_eq!(round(), Some(1));
    std::fs::remove_file(store.join(format!("rings/kiosk/main/{:020}", 3))).unwrap();
    assert!(later.exists());
    assert_eq!(round_with(&["--replace"]), Some(0));
    assert!(!later.exists());

    let (file, other) = (site.bakery.path("kiosk.tar"), site.bakery.path("other"));
    let file = file.to_str().unwrap();
    bakery(&store, &["export", file, "kiosk"]);
    bakery(&other, &["import-store", file, "--allowed-signers", &keys]);
    for number in [1, 2] {
        let original = record(&store, number).unwrap();
        assert_eq!(record(&mirror, number).unwrap(), original);
        assert_eq!(record(&other, number).unwrap(), original);
    }
}
