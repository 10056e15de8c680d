//! pxelinux's configuration. Needs lpxelinux.0, the one that speaks HTTP.

use std::fmt::Write as _;

use super::{Choices, Menu};

/// The menu; `vesamenu.c32` or `menu.c32` is beside lpxelinux.0 on the TFTP server.
#[must_use]
pub(crate) fn pxelinux(menu: &Menu, choices: &Choices) -> String {
    let mut config = String::from("UI menu.c32\nMENU TITLE layerfs\nPROMPT 0\n");
    // Tenths of a second; 0 is forever.
    let _ = writeln!(config, "TIMEOUT {}", u64::from(menu.timeout) * 10);
    for (index, choice) in choices.newest.iter().chain(&choices.older).enumerate() {
        let _ = writeln!(config, "LABEL e{index}\n  MENU LABEL {}", choice.label);
        if index == 0 {
            config.push_str("  MENU DEFAULT\n");
        }
        let _ = writeln!(config, "  KERNEL {}{}", menu.base, choice.kernel);
        let _ = writeln!(config, "  INITRD {}{}", menu.base, choice.initrd);
        // pxelinux adds BOOTIF itself.
        let _ = writeln!(
            config,
            "  APPEND {}\n  IPAPPEND 2",
            choice.command_line(menu)
        );
    }
    for (index, line) in choices.unbootable.iter().enumerate() {
        let _ = writeln!(
            config,
            "LABEL n{index}\n  MENU LABEL {line}\n  MENU DISABLE"
        );
    }
    config.push_str("LABEL disk\n  MENU LABEL Boot from the local disk\n  LOCALBOOT 0\n");
    config
}
