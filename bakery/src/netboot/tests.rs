//! Boot menus.

use super::*;

fn choice(name: &str, label: &str, cmdline: &str) -> Choice {
    Choice {
        name: name.parse().unwrap(),
        label: label.into(),
        kernel: "/boot/aa".into(),
        initrd: Some("/boot/bb".into()),
        cmdline: safe_parameters(cmdline),
    }
}

fn menu() -> Menu {
    Menu {
        base: "http://10.0.0.1:8080".into(),
        timeout: 7,
    }
}

#[test]
fn an_entry_boots_its_own_revision() {
    let script = ipxe(
        &menu(),
        &[choice("kiosk@3", "kiosk", "quiet")],
        &[choice("kiosk@2", "old", "")],
    );
    assert!(script.starts_with("#!ipxe\n"));
    assert!(script.contains("--default e0 --timeout 7000 "), "{script}");
    assert!(script.contains(
        "kernel --name kernel ${base}/boot/aa initrd=initrd root=layerfs:http://10.0.0.1:8080/kiosk/main@3 ip=dhcp quiet BOOTIF=01-${netX/mac:hexhyp} || goto failed\n\
         initrd --name initrd ${base}/boot/bb || goto failed\n"
    ), "{script}");
    assert!(script.contains("/kiosk/main@2 ip=dhcp BOOTIF"), "{script}");
    // Every label that is gone to exists.
    for label in ["menu", "e0", "e1", "disk", "shell", "reboot", "failed"] {
        assert!(
            script.lines().any(|line| line == format!(":{label}")),
            "{label}"
        );
    }
    assert!(grub(&menu(), &[choice("kiosk@3", "kiosk", "quiet")], &[]).contains(
        "  linux '(http,10.0.0.1:8080)/boot/aa' root=layerfs:http://10.0.0.1:8080/kiosk/main@3 ip=dhcp quiet "
    ));
    assert!(
        pxelinux(&menu(), &[choice("kiosk@3", "kiosk", "")], &[])
            .contains("  APPEND root=layerfs:http://10.0.0.1:8080/kiosk/main@3 ip=dhcp\n")
    );
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
    for host in ["", "a b", "a\nb", "a/b", "a${x}", "a'b", "user@host"] {
        assert_eq!(base_of_host(host), None, "{host:?}");
    }
}
