//! The story of four revisions in two rings, told by scripted machines over real HTTP: one is good,
//! one whose init dies, one that hangs before the network while the server has a power cut, one
//! that boots degraded. None of the bad ones leaves the first ring (F10, F11).
//!
//! `tests/boot/fleet.py` is the same story with real boots in QEMU.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use wire::hello::{Health, Hello, Step};
use wire::machine::Identity;

use crate::menus::file;
use crate::site::{Site, hello};
use crate::test_bakery::{run, text, wait_until};

/// A scripted machine.
struct Pc {
    uuid: String,
    mac: String,
    boots: std::cell::Cell<u32>,
}

impl Pc {
    fn new(number: u32) -> Pc {
        Pc {
            uuid: format!("4c4c4544-0042-3510-8051-b4c04f56440{number}"),
            mac: format!("52:54:00:00:01:0{number}"),
            boots: std::cell::Cell::default(),
        }
    }

    /// Powers the machine on and fetches the files of the first entry; returns the revision.
    fn fetch(&self, site: &Site) -> u64 {
        self.boots.set(self.boots.get() + 1);
        let path = format!("/boot.ipxe?uuid={}&mac={}&asset=", self.uuid, self.mac);
        let menu = site.get(&path).body;
        for verb in ["kernel", "initrd"] {
            assert_eq!(site.get(file(&menu, verb)).status, 200);
        }
        wait_until(Duration::from_secs(60), || {
            site.machine(&["show", &self.uuid])["boot"]["step"] == "initramfs"
        });
        let entry = menu
            .lines()
            .find(|line| line.starts_with("item e0 "))
            .unwrap();
        let number = entry.split(' ').nth(4).unwrap();
        number.trim_end_matches(',').parse().unwrap()
    }

    fn say(&self, site: &Site, step: Step, revision: u64, health: Health, seconds: u64) {
        let said = Hello {
            machine: Identity::of_words(&self.uuid, &self.mac, ""),
            revision: format!("kiosk/main@{revision}"),
            target_ms: (step >= Step::Target).then_some(seconds * 1000),
            health: (step >= Step::Target).then_some(health),
            ..hello(step, &format!("{:x}", self.boots.get()))
        };
        assert_eq!(site.say(&said), 204);
    }

    /// A boot that ends healthy.
    fn boot_well(&self, site: &Site, seconds: u64) -> u64 {
        let revision = self.fetch(site);
        let health = Health {
            state: "running".into(),
            ..Health::default()
        };
        self.say(site, Step::Target, revision, health, seconds);
        revision
    }

    /// A boot whose init dies after the root was mounted.
    fn panic(&self, site: &Site) -> u64 {
        let revision = self.fetch(site);
        self.say(site, Step::Mounted, revision, Health::default(), 0);
        revision
    }

    /// A boot with a failed unit.
    fn degrade(&self, site: &Site) -> u64 {
        let revision = self.fetch(site);
        let health = Health {
            state: "degraded".into(),
            units: vec!["cups.service".into()],
            ..Health::default()
        };
        self.say(site, Step::Target, revision, health, 20);
        revision
    }
}

/// A program that writes its arguments and its input to a file.
fn recorder(site: &Site, name: &str) -> (PathBuf, PathBuf) {
    let (program, record) = (
        site.bakery.path(name),
        site.bakery.path(&format!("{name}.told")),
    );
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    let script = format!(
        "#!/bin/sh\n{{ echo \"$@\"; cat; }} >> {}\n",
        record.display()
    );
    std::fs::write(&program, script).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
    (program, record)
}

impl Site {
    fn publish(&self, cmdline: &str) -> u64 {
        run(self.bakery.command().args([
            "set",
            "kiosk",
            "--cmdline",
            cmdline,
            "--author",
            "Ann <ann@school.example>",
        ]));
        let name = "kiosk".parse().unwrap();
        self.bakery.history().newest(&name).unwrap().unwrap()
    }

    fn advance(&self, more: &[&str]) -> Value {
        let mut arguments = vec!["ring", "advance"];
        arguments.extend(more);
        self.bakery_json(&arguments)
    }

    fn ring(&self, ring: &str) -> u64 {
        let listed = self.bakery_json(&["ring", "list", "kiosk"]);
        let rings = listed[0]["rings"].as_array().unwrap();
        let found = rings.iter().find(|one| one["name"] == ring).unwrap();
        found["revision"].as_u64().unwrap()
    }
}

#[test]
fn bad_revisions_never_leave_the_first_ring() {
    let mut site = Site::new();
    let canaries = [Pc::new(1), Pc::new(2), Pc::new(3)];
    let other = Pc::new(9);
    let (hook, record) = recorder(&site, "hooks/10-tell");
    let (sendmail, mailed) = recorder(&site, "sendmail");
    let hooks = hook.parent().unwrap().display().to_string();
    let sendmail = sendmail.display().to_string();
    let notices = [
        "--hooks",
        &hooks,
        "--mail-to",
        "op@school.example",
        "--sendmail",
        &sendmail,
    ];
    for (number, pc) in canaries.iter().enumerate() {
        assert_eq!(pc.boot_well(&site, 20), 1);
        site.machine(&["name", &pc.uuid, &format!("pc{}", number + 1)]);
        site.machine(&["group", &pc.uuid, "lab"]);
    }
    assert_eq!(other.boot_well(&site, 20), 1);
    site.machine(&["assign", "--group", "lab", "--ring", "canary"]);
    site.bakery_json(&["ring", "add", "kiosk", "canary"]);
    site.bakery_json(&[
        "ring", "policy", "kiosk", "all", "--boots", "3", "--within", "1d", "--slower", "50",
    ]);

    // A good one: it goes on after three good boots, and not before.
    let good = site.publish("good");
    assert_eq!(canaries[0].boot_well(&site, 21), good);
    assert_eq!(site.advance(&notices), serde_json::json!([]));
    for pc in &canaries[1..] {
        assert_eq!(pc.boot_well(&site, 22), good);
    }
    // F10.5: without a signing key there are only proposals.
    let key = PathBuf::from(format!("{}.keys/head", site.bakery.store().display()));
    for name in ["head", "head.pub"] {
        let away = key.with_file_name(format!("{name}.away"));
        std::fs::rename(key.with_file_name(name), away).unwrap();
    }
    let proposed = site.advance(&notices);
    assert_eq!(proposed[0]["action"], "promoted");
    assert!(proposed[0].get("record").is_none(), "{proposed}");
    for name in ["head", "head.pub"] {
        let away = key.with_file_name(format!("{name}.away"));
        std::fs::rename(away, key.with_file_name(name)).unwrap();
    }
    assert_eq!(site.ring("all"), 1);
    let advanced = site.advance(&notices);
    assert_eq!(
        (&advanced[0]["to"], &advanced[0]["revision"]),
        (&"all".into(), &good.into())
    );
    assert_eq!(site.ring("all"), good);

    // Its init dies: two boots on each of three machines.
    let dies = site.publish("dies");
    for _ in 0..2 {
        for pc in &canaries {
            assert_eq!(pc.panic(&site), dies);
        }
        assert_eq!(
            site.advance(&notices),
            serde_json::json!([]),
            "one boot is not two"
        );
    }
    // The next power-on ends the second boot.
    for pc in &canaries {
        pc.panic(&site);
    }
    let advanced = site.advance(&notices);
    assert_eq!(advanced[0]["action"], "quarantined", "{advanced}");
    assert_eq!(advanced[0]["to"], good.to_string());
    assert_eq!(advanced[0]["reason"], "panic on pc1, pc2, pc3");
    assert_eq!((site.ring("canary"), site.ring("all")), (good, good));
    let line = std::fs::read_to_string(&record).unwrap();
    let last = line.lines().last().unwrap();
    assert_eq!(
        last,
        format!("quarantined kiosk {dies} {good} Ann <ann@school.example> panic on pc1, pc2, pc3")
    );
    let mail = std::fs::read_to_string(&mailed).unwrap();
    for part in [
        "-i -- op@school.example ann@school.example",
        "Subject: kiosk@3 was quarantined",
    ] {
        assert!(mail.contains(part), "{mail}");
    }
    let shown = site.words(&["show", "pc1"]);
    assert!(shown.contains("kiosk/main@3  panic"), "{shown}");
    for pc in &canaries {
        assert_eq!(pc.boot_well(&site, 20), good, "back on the last good one");
    }

    // It hangs before the network. A power cut of the server hides the first boots.
    let hangs = site.publish("hangs");
    for pc in &canaries {
        assert_eq!(pc.fetch(&site), hangs);
    }
    site.fleet.take().unwrap().kill();
    site.bakery.set_clock("+20m");
    site.start_fleet(&[]);
    for _ in 0..2 {
        for pc in &canaries {
            assert_eq!(pc.fetch(&site), hangs);
        }
        assert_eq!(
            site.advance(&notices),
            serde_json::json!([]),
            "an outage is not a failure"
        );
    }
    let shown = site.words(&["show", "pc2"]);
    assert!(
        shown.contains("initramfs hang (outage or power cut)"),
        "{shown}"
    );
    for pc in &canaries {
        pc.fetch(&site);
    }
    assert_eq!(
        site.advance(&notices)[0]["reason"],
        "initramfs restart on pc1, pc2, pc3"
    );
    assert_eq!((site.ring("canary"), site.ring("all")), (good, good));

    // Degraded, and a slow one is not promoted either.
    let degraded = site.publish("degraded");
    for _ in 0..3 {
        for pc in &canaries {
            assert_eq!(pc.degrade(&site), degraded);
        }
    }
    let advanced = site.advance(&notices);
    assert_eq!(
        advanced[0]["reason"],
        "degraded (cups.service) on pc1, pc2, pc3"
    );
    let slow = site.publish("slow");
    for pc in &canaries {
        assert_eq!(
            pc.boot_well(&site, 40),
            slow,
            "a push after a quarantine is not blocked"
        );
    }
    assert_eq!(site.advance(&notices), serde_json::json!([]));
    let status = text(&run(site.bakery.command().args(["ring", "status", "kiosk"])).stdout);
    for part in [
        "canary           revision 6     3 of 3 machines good, 0 failing",
        "the median boot takes 40.0 s with 6 and",
        "quarantined: 3, 4, 5",
        "quarantine 5: degraded (cups.service) on pc1, pc2, pc3; back to 2",
        "promote all 2: 3 good boots, 3 of 3 machines",
    ] {
        assert!(status.contains(part), "{part}:\n{status}");
    }
    assert_eq!(
        other.boot_well(&site, 20),
        good,
        "no bad one left the first ring"
    );
    assert!(site.words(&["show", "pc1"]).contains("slow"));
    let page = site.get("/metrics").body;
    for line in [
        "bakery_ring_revision{history=\"kiosk/main\",ring=\"all\"} 2",
        "bakery_ring_newest_revision{history=\"kiosk/main\"} 6",
        "bakery_ring_quarantined{history=\"kiosk/main\",revision=\"5\"} 1",
    ] {
        assert!(page.lines().any(|one| one == line), "{line}: {page}");
    }
    site.bakery.assert_sound();
    end_below_faketime(&site);
}

/// Ends the process that faketime runs: it outlives faketime.
fn end_below_faketime(site: &Site) {
    let faketime = site.fleet.as_ref().unwrap().child.id();
    let children = format!("/proc/{faketime}/task/{faketime}/children");
    for child in std::fs::read_to_string(children)
        .unwrap()
        .split_whitespace()
    {
        let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
        rustix::process::kill_process(child, rustix::process::Signal::TERM).unwrap();
    }
}
