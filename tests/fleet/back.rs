//! Returns over real HTTP: after three failures of a revision the machine boots its last good one.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use wire::hello::Step;

use crate::menus::file;
use crate::site::{Site, UUID, hello};
use crate::test_bakery::{run, wait_until};

/// Powers the machine on: it gets its menu and fetches the files of the first entry. Returns the
/// menu.
fn power_on(site: &Site) -> String {
    let menu = site.menu("/boot.ipxe");
    for verb in ["kernel", "initrd"] {
        assert_eq!(site.get(file(&menu, verb)).status, 200);
    }
    wait_until(Duration::from_secs(30), || {
        site.machine(&["show", UUID])["boot"]["step"] == "initramfs"
    });
    menu
}

/// F8: after three boots without good health the fourth boots the last good revision; list, metric
/// and hook report it.
#[test]
fn the_fourth_boot_is_the_last_good_revision() {
    let mut site = Site::new();
    let (hook, record) = (site.bakery.path("hook"), site.bakery.path("told"));
    std::fs::write(
        &hook,
        format!("#!/bin/sh\necho \"$@\" >> {}\n", record.display()),
    )
    .unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(site.fleet.take().unwrap().terminate());
    site.start_fleet(&["--hook", hook.to_str().unwrap()]);

    power_on(&site);
    assert_eq!(site.say(&hello(Step::Target, "a1")), 204);
    run(site
        .bakery
        .command()
        .args(["set", "kiosk", "--cmdline", "second"]));
    for _ in 0..3 {
        let menu = power_on(&site);
        assert!(menu.contains("item e0 kiosk revision 2"), "{menu}");
    }
    let menu = power_on(&site);
    assert!(menu.contains("item e0 kiosk revision 1"), "{menu}");
    let at = |text: &str| menu.find(text).unwrap();
    assert!(at("Older revisions") < at("kiosk revision 2"), "{menu}");
    let of_system = site.menu("/ipxe/kiosk");
    assert!(
        of_system.contains("item e0 kiosk revision 1"),
        "{of_system}"
    );
    let expected = format!("returned {UUID} kiosk/main@2 kiosk/main@1\n");
    wait_until(Duration::from_secs(30), || {
        std::fs::read_to_string(&record).is_ok_and(|record| record == expected)
    });
    let listed = site.words(&["list", "--returned"]);
    assert!(
        listed.contains("RETURNED from kiosk/main@2 to kiosk/main@1"),
        "{listed}"
    );
    let page = site.get("/metrics").body;
    assert!(
        page.contains("bakery_fleet_machines_returned 1\n"),
        "{page}"
    );
    // The return does not affect another machine.
    let other = site.get("/boot.ipxe?uuid=&mac=52-54-00-00-00-18").body;
    assert!(other.contains("item e0 kiosk revision 2"), "{other}");
    // The return survives a restart of the process.
    site.fleet.take().unwrap().kill();
    site.start_fleet(&[]);
    assert!(site.menu("/boot.ipxe").contains("item e0 kiosk revision 1"));
    // A revision that the operator assigns, and a newer one, have precedence over the return.
    site.machine(&["assign", UUID, "--system", "kiosk@2"]);
    assert!(site.menu("/boot.ipxe").contains("item e0 kiosk revision 2"));
    site.machine(&["assign", UUID, "--default"]);
    assert!(site.menu("/boot.ipxe").contains("item e0 kiosk revision 1"));
    run(site
        .bakery
        .command()
        .args(["set", "kiosk", "--cmdline", "third"]));
    assert!(site.menu("/boot.ipxe").contains("item e0 kiosk revision 3"));
    site.machine(&["retry", UUID]);
    assert_eq!(site.machine(&["list", "--returned"]), serde_json::json!([]));
}
