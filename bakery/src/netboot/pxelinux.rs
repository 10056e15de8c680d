//! pxelinux's configuration. Needs lpxelinux.0, the one that speaks HTTP.

use std::fmt::Write as _;

use super::{Choice, Menu};

/// The menu; `vesamenu.c32` or `menu.c32` lies beside lpxelinux.0 on the TFTP server.
#[must_use]
pub fn pxelinux(menu: &Menu, newest: &[Choice], older: &[Choice]) -> String {
    let mut config = String::from("UI menu.c32\nMENU TITLE layerfs\nPROMPT 0\n");
    // Tenths of a second; 0 is for ever.
    let _ = writeln!(config, "TIMEOUT {}", u64::from(menu.timeout) * 10);
    for (index, choice) in newest.iter().chain(older).enumerate() {
        let _ = writeln!(config, "LABEL e{index}\n  MENU LABEL {}", choice.label);
        if index == 0 {
            config.push_str("  MENU DEFAULT\n");
        }
        let _ = writeln!(config, "  KERNEL {}{}", menu.base, choice.kernel);
        if let Some(path) = &choice.initrd {
            let _ = writeln!(config, "  INITRD {}{path}", menu.base);
        }
        // pxelinux adds BOOTIF itself.
        let _ = writeln!(
            config,
            "  APPEND {}\n  IPAPPEND 2",
            choice.command_line(menu)
        );
    }
    config.push_str("LABEL disk\n  MENU LABEL Boot from the local disk\n  LOCALBOOT 0\n");
    config
}
