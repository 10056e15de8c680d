//! A real iPXE in QEMU requests its menu (`make test-fleet`).

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::site::{MAC, Site, UUID};
use crate::test_bakery::{Running, wait_until};

/// F5.1: iPXE repeats its request with its hardware names and fetches the kernel at the URL with
/// its id.
#[test]
#[ignore = "needs QEMU and the ROMs of iPXE: make test-fleet"]
fn a_real_ipxe_says_its_names() {
    let site = Site::with(&[], &["--fleet", "--menu-timeout", "1"]);
    let port = site.address.port();
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-machine", "pc,graphics=off", "-accel", "tcg,tb-size=64"])
        .args(["-cpu", "Nehalem", "-m", "256", "-nodefaults"])
        .args(["-display", "none", "-no-reboot"])
        .args(["-smbios", &format!("type=1,uuid={UUID}")])
        .args(["-smbios", "type=3,asset=PC 17"])
        .arg("-netdev")
        .arg(format!(
            "user,id=n,bootfile=http://10.0.2.2:{port}/boot.ipxe"
        ))
        .arg("-device")
        .arg(format!("virtio-net-pci,netdev=n,mac={MAC},bootindex=1"))
        .stdout(Stdio::null());
    let _machine = Running::start(&mut qemu);
    // The file is not a kernel, so the boot stops there.
    wait_until(Duration::from_secs(300), || {
        let listed = site.machine(&["list"]);
        listed[0]["boot"]["step"] == "kernel"
    });
    let shown = site.machine(&["show", MAC]);
    assert_eq!(shown["uuid"], UUID);
    assert_eq!(shown["asset"], "PC 17");
    assert_eq!(shown["boot"]["revision"], "kiosk/main@1");
}
