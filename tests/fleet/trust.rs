//! Requests of any host on the network.

use wire::hello::Step;

use crate::site::{Site, UUID, hello};

/// F7.1: a hello changes neither names nor assignments.
#[test]
fn a_forged_hello_changes_no_assignment() {
    let site = Site::new();
    site.menu("/boot.ipxe");
    site.machine(&["name", UUID, "pc17"]);
    site.machine(&["assign", UUID, "--system", "lab"]);
    let before = site.machine(&["assign", UUID]);
    let mut forged = serde_json::to_value(hello(Step::Target, "bad")).unwrap();
    for key in ["name", "group", "assignment", "system", "localboot"] {
        forged[key] = "kiosk".into();
        forged["machine"][key] = "kiosk".into();
    }
    forged["revision"] = "kiosk/main@99".into();
    let answer = site.ask("POST", "/v1/hello", forged.to_string().as_bytes());
    assert_eq!(answer.status, 204);
    assert_eq!(site.machine(&["assign", UUID]), before);
    assert_eq!(site.machine(&["show", "pc17"])["name"], "pc17");
    assert!(!site.menu("/boot.ipxe").contains("kiosk revision"));
}

/// F6.1: an address beyond its allowance gets 429; another address gets 204.
#[test]
fn an_address_has_an_allowance() {
    let site = Site::with(&["--burst", "5", "--rate", "1"], &["--fleet"]);
    let body = serde_json::to_vec(&hello(Step::Mounted, "a1")).unwrap();
    let from = |last| {
        let address = std::net::Ipv4Addr::new(127, 9, 9, last);
        site.ask_from(address, "POST", "/v1/hello", &body)
            .unwrap()
            .status
    };
    let answers: Vec<u16> = (0..40).map(|_| from(1)).collect();
    assert!(
        answers[..5].iter().all(|status| *status == 204),
        "{answers:?}"
    );
    assert!(answers.contains(&429), "{answers:?}");
    assert_eq!(from(2), 204);
}

/// F3.1: the process refuses malformed hellos and keeps running.
#[test]
fn hostile_requests_are_refused() {
    let site = Site::new();
    let good = serde_json::to_string(&hello(Step::Mounted, "a1")).unwrap();
    let long = format!("{good}{}", " ".repeat(5000));
    let nobody = r#"{"format":1,"machine":{},"step":"menu"}"#;
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        ("\u{0}\u{1}", 400),
        (nobody, 400),
        (long.as_str(), 413),
    ] {
        let answer = site.ask("POST", "/v1/hello", body.as_bytes());
        assert_eq!(answer.status, status, "{body:.40}: {}", answer.body);
    }
    assert_eq!(site.get("/v1/hello").status, 405);
    // The server does not forward requests to the process's other routes.
    for path in ["/menu", "/fetched"] {
        assert_eq!(site.ask("POST", path, b"{}").status, 405, "{path}");
    }
    for query in [
        "uuid=%00&mac=%00",
        "mac=../../etc",
        "uuid=x&mac=52:54:00:00:00:17'%20or%201=1--",
        "mac=%0d%0achain%20http://evil",
    ] {
        let menu = site.get(&format!("/boot.ipxe?{query}"));
        assert_eq!(menu.status, 200, "{query}");
        assert!(!menu.body.contains("evil"), "{}", menu.body);
    }
    assert!(site.machine(&["list"]).as_array().unwrap().is_empty());
    assert_eq!(site.say(&hello(Step::Mounted, "a1")), 204);
}

/// F2.3: a copy with other cards is reported, until the operator forgets the original.
#[test]
fn a_copy_with_other_cards_is_reported() {
    let site = Site::new();
    assert_eq!(site.say(&hello(Step::Mounted, "a1")), 204);
    let mut copy = hello(Step::Mounted, "b1");
    copy.machine.macs = vec!["52:54:00:00:00:99".parse().unwrap()];
    assert_eq!(site.say(&copy), 204);
    let doubtful = site.machine(&["list", "--doubtful"]);
    assert_eq!(doubtful.as_array().unwrap().len(), 1);
    assert_eq!(doubtful[0]["duplicate_of"], UUID);
    assert!(
        site.words(&["list"])
            .contains(&format!("DUPLICATE of {UUID}"))
    );
    assert!(
        site.get("/metrics")
            .body
            .contains("bakery_fleet_machines_doubtful 1\n")
    );
    site.machine(&["forget", UUID]);
    let doubtful = site.machine(&["list", "--doubtful"]);
    assert!(doubtful.as_array().unwrap().is_empty(), "{doubtful}");
}

/// SECURITY.md: forged hellos can promote a published revision and quarantine one. They give no
/// ring an unpublished revision, nor one older than the last good one.
#[test]
fn forged_hellos_move_rings_only_within_the_history() {
    let site = Site::new();
    let boots = std::cell::Cell::new(0_u32);
    let forge = |machine: u8, revision: u64, good: bool| {
        boots.set(boots.get() + 1);
        let path = format!("/boot.ipxe?uuid=&mac=52-54-00-00-09-{machine:02x}");
        let menu = site.get(&path).body;
        for verb in ["kernel", "initrd"] {
            site.get(crate::menus::file(&menu, verb));
        }
        let mut said = hello(if good { Step::Target } else { Step::Mounted }, "");
        let card = format!("52:54:00:00:09:{machine:02x}");
        said.machine = wire::machine::Identity::of_words("", &card, "");
        said.boot = format!("{:x}", boots.get());
        said.revision = format!("kiosk/main@{revision}");
        assert_eq!(site.say(&said), 204);
    };
    site.bakery_json(&["ring", "add", "kiosk", "canary"]);
    site.bakery_json(&["ring", "policy", "kiosk", "all", "--boots", "1"]);
    let advance = || site.bakery_json(&["ring", "advance", "--hooks", "/nonexistent"]);
    // Good boots of revisions that do not exist, and failures of the only one.
    for machine in 1..=4 {
        forge(machine, 99, true);
        forge(machine, 1, false);
        forge(machine, 1, false);
        forge(machine, 1, false);
    }
    assert_eq!(advance(), serde_json::json!([]));
    let listed = site.bakery_json(&["ring", "list", "kiosk"]);
    for ring in listed[0]["rings"].as_array().unwrap() {
        assert_eq!(ring["revision"], 1, "{listed}");
    }
    assert_eq!(site.offered(""), "kiosk revision 1");
    // Neither a hello nor a request writes to the store's records.
    let body = b"{}";
    for path in [
        "/rings/kiosk/main/00000000000000000002",
        "/v1/hello",
        "/serving",
    ] {
        assert!(site.ask("POST", path, body).status >= 400, "{path}");
    }
    assert_eq!(
        site.bakery_json(&["ring", "log", "kiosk"])
            .as_array()
            .unwrap()
            .len(),
        2
    );
}
