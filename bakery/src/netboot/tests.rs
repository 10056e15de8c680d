//! Tests of the boot menus.

use super::*;

fn choice(name: &str, label: &str, cmdline: &str) -> MenuChoice {
    MenuChoice {
        name: name.parse().unwrap(),
        label: label.into(),
        kernel: "/boot/aa".into(),
        initrd: "/boot/bb".into(),
        is_divided: false,
        card: None,
        follows: true,
        cmdline: safe_parameters(cmdline),
    }
}

fn menu() -> Menu {
    Menu {
        base: "http://10.0.0.1:8080".into(),
        timeout: 7,
        again: None,
    }
}

#[test]
fn an_entry_boots_its_own_revision() {
    let both = Choices {
        newest: vec![choice("kiosk@3", "kiosk", "quiet")],
        older: vec![choice("kiosk@2", "old", "")],
        unbootable: vec!["lab has none: run bakery initrd lab".into()],
    };
    let script = ipxe(&menu(), &both);
    assert!(script.starts_with("#!ipxe\n"));
    assert!(script.contains("--default e0 --timeout 7000 "), "{script}");
    assert!(script.contains(
        "kernel --name kernel ${base}/boot/aa initrd=initrd root=layerfs:http://10.0.0.1:8080/kiosk/main@3 ip=dhcp quiet BOOTIF=01-${netX/mac:hexhyp} || goto failed\n\
         initrd --name initrd ${base}/boot/bb || goto failed\n"
    ), "{script}");
    assert!(script.contains("/kiosk/main@2 ip=dhcp BOOTIF"), "{script}");
    // Every target of goto exists.
    for label in ["menu", "e0", "e1", "disk", "shell", "reboot", "failed"] {
        assert!(
            script.lines().any(|line| line == format!(":{label}")),
            "{label}"
        );
    }
    assert!(
        script.contains("item --gap -- lab has none: run bakery initrd lab\n"),
        "{script}"
    );
    let script = grub(&menu(), &both);
    assert!(script.contains(
        "  linux '(http,10.0.0.1:8080)/boot/aa' root=layerfs:http://10.0.0.1:8080/kiosk/main@3 ip=dhcp quiet BOOTIF=01-$net_default_mac\n\
         \x20 initrd '(http,10.0.0.1:8080)/boot/bb'\n"
    ), "{script}");
    let below = Menu {
        base: "http://srv/layerfs".into(),
        timeout: 0,
        again: None,
    };
    assert!(grub(&below, &both).contains("linux '(http,srv)/layerfs/boot/aa'"));
    let config = pxelinux(&menu(), &both);
    assert!(
        config.contains("  APPEND root=layerfs:http://10.0.0.1:8080/kiosk/main@3 ip=dhcp quiet\n"),
        "{config}"
    );
    assert!(
        config.contains("MENU LABEL lab has none: run bakery initrd lab\n  MENU DISABLE\n"),
        "{config}"
    );
    let unknown = ipxe_unknown(&menu(), "kiosc", &both);
    assert!(
        unknown.contains("menu This server has no kiosc. It has:\n")
            && !unknown.contains("--timeout 7000"),
        "{unknown}"
    );
}

/// iPXE names its card; a loader that cannot gets the whole initramfs, and so does an entry whose
/// parameters may need another card.
#[test]
fn an_entry_asks_for_the_initramfs_of_its_card() {
    let script = |cmdline: &str, mark: &str| {
        let mut one = choice("kiosk@3", "kiosk", cmdline);
        one.is_divided = true;
        one.initrd.push_str(mark);
        let choices = Choices {
            newest: vec![one],
            ..Choices::default()
        };
        let others = [grub(&menu(), &choices), pxelinux(&menu(), &choices)];
        assert!(others.iter().all(|text| !text.contains("card=")));
        ipxe(&menu(), &choices)
    };
    let line = |path: &str| format!("initrd --name initrd ${{base}}{path} || goto failed\n");
    for (cmdline, mark, path) in [
        ("quiet", "", "/boot/bb?card=${netX/busid:hexhyp}"),
        (
            "layerfs.upper=LABEL=data",
            "?initramfs=pc17&revision=kiosk/main@3",
            "/boot/bb?initramfs=pc17&revision=kiosk/main@3&card=${netX/busid:hexhyp}&disks",
        ),
        ("ip=eth1:dhcp", "", "/boot/bb"),
    ] {
        let script = script(cmdline, mark);
        assert!(script.contains(&line(path)), "{script}");
    }
}

/// docs/FLEET.md F5.7: GRUB cannot name its card, but the server may know it.
#[test]
fn a_known_card_is_in_the_entry_of_grub() {
    let script = |cmdline: &str, is_divided: bool| {
        let mut one = choice("kiosk@3", "kiosk", cmdline);
        one.is_divided = is_divided;
        one.initrd.push_str("?initramfs=pc17&revision=kiosk/main@3");
        one.card = Some("8086:10d3".parse().unwrap());
        let choices = Choices {
            newest: vec![one],
            ..Choices::default()
        };
        grub(&menu(), &choices)
    };
    let whole = "initrd '(http,10.0.0.1:8080)/boot/bb?initramfs=pc17&revision=kiosk/main@3";
    for (cmdline, is_divided, more) in [
        ("quiet", true, "&card=01-80-86-10-d3"),
        (
            "layerfs.upper=LABEL=data",
            true,
            "&card=01-80-86-10-d3&disks",
        ),
        ("ip=eth1:dhcp", true, ""),
        ("quiet", false, ""),
    ] {
        let script = script(cmdline, is_divided);
        assert!(script.contains(&format!("{whole}{more}'\n")), "{script}");
    }
}

#[test]
fn nothing_in_a_manifest_becomes_script() {
    let parameters =
        "quiet a=${x} || shell && b;c 'd' `e` \"f\" g|h ip=static console=ttyS0,115200";
    assert_eq!(
        safe_parameters(parameters),
        "quiet shell ip=static console=ttyS0,115200"
    );
    let choice = choice("kiosk@3", "kiosk", parameters);
    assert!(
        !choice.command_line(&menu()).contains("ip=dhcp"),
        "the revision's own ip= wins"
    );
    let label: String = "Fix ${net0/mac}; it's\n done"
        .chars()
        .filter(|one| is_harmless(*one))
        .collect();
    assert_eq!(label, "Fix net0/mac its done");
}

#[test]
fn hosts_are_hosts() {
    assert_eq!(
        base_of_host("srv.lan:8080").as_deref(),
        Some("http://srv.lan:8080")
    );
    assert_eq!(
        base_of_host("[fd00::1]:80").as_deref(),
        Some("http://[fd00::1]:80")
    );
    for (host, port) in [
        ("srv", false),
        ("srv:8080", true),
        ("[fd00::1]", false),
        ("[fd00::1]:80", true),
    ] {
        assert_eq!(has_port(host), port, "{host}");
    }
    for host in ["", "a b", "a\nb", "a/b", "a${x}", "a'b", "user@host"] {
        assert_eq!(base_of_host(host), None, "{host:?}");
    }
}

#[test]
fn urls_have_a_scheme() {
    for good in [
        "http://10.0.0.1:8080",
        "http://[fd00::1]/layerfs",
        "https://srv",
    ] {
        require_url(good).unwrap();
    }
    let bare = require_url("10.0.0.1:8080").unwrap_err();
    assert!(bare.contains("write http://10.0.0.1:8080"), "{bare}");
    for bad in ["ftp://srv", "http://", "http://a b", "http://a${x}"] {
        assert!(require_url(bad).is_err(), "{bad}");
    }
}
