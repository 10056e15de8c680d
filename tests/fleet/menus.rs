//! Menus of single machines: assignments, recorded steps, and the loss of the process.

use std::net::UdpSocket;
use std::time::Duration;

use wire::hello::Step;

use crate::site::{MAC, Site, UUID, hello};
use crate::test_bakery::{run, wait_until};

/// The path of a file in an iPXE script.
pub(crate) fn file<'s>(script: &'s str, verb: &str) -> &'s str {
    let line = script.lines().find(|line| line.starts_with(verb)).unwrap();
    let word = line
        .split(' ')
        .find(|word| word.starts_with("${base}"))
        .unwrap();
    word.trim_start_matches("${base}")
}

/// F5.1, F4.1: the menu requests the machine's names; the server records each fetched file as a
/// step.
#[test]
fn a_boot_is_seen_from_its_menu_on() {
    let site = Site::new();
    let plain = site.get("/boot.ipxe").body;
    let again = "chain --replace ${base}/boot.ipxe?uuid=${uuid}&mac=${netX/mac:hexhyp}&asset=${asset:uristring} ||\n";
    assert!(plain.contains(again), "{plain}");
    assert!(plain.contains("item e0 kiosk revision 1"), "{plain}");
    let of_system = site.get("/ipxe/kiosk").body;
    assert!(
        of_system.contains("${base}/ipxe/kiosk?uuid=${uuid}"),
        "{of_system}"
    );
    let grub = site.get("/grub.cfg").body;
    let again = format!(
        "configfile \"(http,{})/grub.cfg?uuid=$lf_uuid&mac=$net_default_mac\"\n",
        site.address
    );
    assert!(grub.contains(&again), "{grub}");
    assert!(site.machine(&["list"]).as_array().unwrap().is_empty());

    let script = site.menu("/boot.ipxe");
    assert!(!script.contains("chain --replace"), "{script}");
    let step = || {
        site.machine(&["show", MAC])["boot"]["step"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(step(), "menu");
    for (verb, reached) in [("kernel", "kernel"), ("initrd", "initramfs")] {
        let path = file(&script, verb);
        let marked = format!("?{reached}={UUID}&revision=kiosk/main@1");
        assert!(path.ends_with(&marked), "{path}");
        assert_eq!(site.get(path).status, 200);
        wait_until(Duration::from_secs(20), || step() == reached);
    }
    assert_eq!(site.say(&hello(Step::Mounted, "a1")), 204);
    assert_eq!(site.say(&hello(Step::Target, "a1")), 204);
    let shown = site.machine(&["show", "A17"]);
    assert_eq!(
        (&shown["state"], &shown["boot"]["step"]),
        (&"good".into(), &"healthy".into())
    );
    assert_eq!(shown["boots"].as_array().unwrap().len(), 1);
    assert_eq!(shown["address"], "127.0.0.1");
    site.machine(&["name", UUID, "pc17"]);
    let words = site.words(&["show", "pc17"]);
    for line in ["pc17\n", "asset tag  A17", "healthy    kiosk/main@1"] {
        assert!(words.contains(line), "{line}: {words}");
    }
    let line = site.words(&["list"]);
    assert!(
        line.starts_with("pc17 ") && line.contains(" good "),
        "{line}"
    );
    let page = site.get("/metrics").body;
    for line in [
        "bakery_fleet_up 1",
        "bakery_fleet_machines{history=\"kiosk/main\",revision=\"1\",ring=\"all\",state=\"good\"} 1",
        "bakery_fleet_hellos_total{step=\"menu\"} 1",
        "bakery_fleet_boots_last_hour{step=\"healthy\"} 1",
    ] {
        assert!(page.lines().any(|one| one == line), "{line}: {page}");
    }
}

/// F5.2 to F5.5: the machine's assignment has precedence over the group's, and both over the site's
/// menu.
#[test]
fn menus_follow_what_is_assigned() {
    let site = Site::new();
    let both = site.menu("/boot.ipxe");
    assert!(
        both.contains("item e0 kiosk") && both.contains("item e1 lab"),
        "{both}"
    );
    site.machine(&["group", UUID, "room-3"]);
    site.machine(&[
        "assign",
        "--group",
        "room-3",
        "--system",
        "lab",
        "--parameters",
        "quiet=0 console=ttyS0",
    ]);
    for path in ["/boot.ipxe", "/ipxe/kiosk", "/grub.cfg"] {
        let menu = site.menu(path);
        assert!(
            menu.contains("lab revision 1") && !menu.contains("kiosk revision"),
            "{menu}"
        );
        assert!(
            menu.contains("ip=dhcp quiet quiet=0 console=ttyS0 BOOTIF"),
            "{menu}"
        );
    }
    // The machine's system replaces the group's; the group's parameters stay.
    site.machine(&["assign", UUID, "--system", "kiosk@1"]);
    let menu = site.menu("/boot.ipxe");
    assert!(
        menu.contains("item e0 kiosk revision 1") && !menu.contains("lab revision"),
        "{menu}"
    );
    assert!(menu.contains("console=ttyS0"), "{menu}");
    site.machine(&["assign", UUID, "--localboot"]);
    let menu = site.menu("/boot.ipxe");
    assert!(
        menu.contains("choose --default disk") && !menu.contains("revision"),
        "{menu}"
    );
    let menu = site.menu("/grub.cfg");
    assert!(
        menu.starts_with("set timeout=10\nset default=0\n"),
        "{menu}"
    );
    assert!(!menu.contains("linux '"), "{menu}");
    // An assigned system that does not exist stops no boot.
    site.machine(&["assign", UUID, "--localboot", "no", "--system", "gone@9"]);
    let menu = site.menu("/boot.ipxe");
    assert!(
        menu.contains("kiosk revision 1") && menu.contains("lab revision 1"),
        "{menu}"
    );
    // Another machine, before and after it joins the group.
    let other = site.get("/boot.ipxe?uuid=&mac=52-54-00-00-00-18").body;
    assert!(other.contains("kiosk revision 1"), "{other}");
    site.machine(&["group", "52:54:00:00:00:18", "room-3"]);
    let other = site.get("/boot.ipxe?uuid=&mac=52-54-00-00-00-18").body;
    assert!(!other.contains("kiosk revision"), "{other}");
    site.machine(&["assign", "--group", "room-3", "--default"]);
    assert_eq!(site.machine(&["groups"]), serde_json::json!([]));
}

/// F9.5: only the revision of the ring follows newer ones; what was chosen or assigned stays.
#[test]
fn an_older_or_assigned_entry_does_not_follow() {
    let site = Site::new();
    for cmdline in ["layerfs.follow=auto", "quiet layerfs.follow=auto,1:00-2:00"] {
        run(site
            .bakery
            .command()
            .args(["set", "kiosk", "--cmdline", cmdline]));
    }
    let lines = |menu: &str, of: &str| -> Vec<bool> {
        let address = format!("/kiosk/main@{of} ");
        let lines = menu.lines().filter(|line| line.contains(&address));
        lines
            .map(|line| line.contains("layerfs.follow=auto") && !line.contains("layerfs.follow=no"))
            .collect()
    };
    for path in ["/boot.ipxe", "/ipxe/kiosk", "/grub.cfg"] {
        let menu = site.menu(path);
        assert_eq!(
            (lines(&menu, "3"), lines(&menu, "2")),
            (vec![true], vec![false]),
            "{menu}"
        );
        assert!(
            menu.contains("layerfs.follow=auto layerfs.follow=no"),
            "{menu}"
        );
        // The entry before has no such parameter.
        let first = menu
            .lines()
            .find(|line| line.contains("/kiosk/main@1 "))
            .unwrap();
        assert!(!first.contains("layerfs.follow"), "{menu}");
    }
    site.machine(&[
        "assign",
        UUID,
        "--system",
        "kiosk@3",
        "--parameters",
        "layerfs.follow=auto",
    ]);
    let menu = site.menu("/boot.ipxe");
    assert_eq!(lines(&menu, "3"), [false], "{menu}");
    assert!(
        menu.contains("layerfs.follow=auto layerfs.follow=no"),
        "{menu}"
    );
    site.machine(&["assign", UUID, "--system", "kiosk"]);
    assert_eq!(lines(&site.menu("/boot.ipxe"), "3"), [true]);
}

/// F1.3: without the process a machine gets the site's menu, and the server answers a hello with
/// 503.
#[test]
fn losing_the_process_stops_no_boot() {
    let mut site = Site::new();
    site.menu("/boot.ipxe");
    site.machine(&["assign", UUID, "--system", "lab"]);
    site.fleet.take().unwrap().kill();
    let menu = site.menu("/boot.ipxe");
    assert!(
        menu.contains("kiosk revision 1") && menu.contains("lab revision 1"),
        "{menu}"
    );
    assert_eq!(site.say(&hello(Step::Mounted, "a1")), 503);
    assert!(site.get("/metrics").body.contains("bakery_fleet_up 0\n"));
    // The operator's commands still work, and the assignment applies again after a restart.
    assert_eq!(site.machine(&["list"]).as_array().unwrap().len(), 1);
    site.start_fleet(&[]);
    assert!(!site.menu("/boot.ipxe").contains("kiosk revision"));
    assert_eq!(site.say(&hello(Step::Mounted, "a1")), 204);
    assert!(site.fleet.take().unwrap().terminate());
}

/// A process that accepts a request and never answers only delays the boot.
#[test]
fn a_process_that_hangs_stops_no_boot() {
    let site = Site::new();
    let pid = rustix::process::Pid::from_child(&site.fleet.as_ref().unwrap().child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let menu = site.menu("/boot.ipxe");
    assert!(menu.contains("kiosk revision 1"), "{menu}");
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
}

/// F5.6: each card gets its packet three times.
#[test]
fn a_group_is_woken() {
    let site = Site::new();
    site.menu("/boot.ipxe");
    site.machine(&["group", MAC, "room-3"]);
    let card = UdpSocket::bind("127.99.0.9:9").unwrap();
    card.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    site.machine(&["wake", "--group", "room-3", "--to", "127.99.0.9"]);
    let mut wanted = vec![0xff; 6];
    (0..16).for_each(|_| wanted.extend([0x52, 0x54, 0, 0, 0, 0x17]));
    for _ in 0..3 {
        let mut packet = [0; 256];
        let len = card.recv(&mut packet).unwrap();
        assert_eq!(packet[..len], wanted);
    }
}

/// A server without a fleet requests no names and accepts no hello (F1.4).
#[test]
fn a_server_without_a_fleet_is_as_before() {
    let site = Site::with(&[], &[]);
    let menu = site.menu("/boot.ipxe");
    assert!(!menu.contains("chain") && !menu.contains('?'), "{menu}");
    assert_eq!(site.say(&hello(Step::Mounted, "a1")), 404);
    assert!(!site.get("/metrics").body.contains("fleet"));
}
