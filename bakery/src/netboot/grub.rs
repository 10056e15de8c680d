//! GRUB's configuration, for firmware that loads GRUB over the network.

use std::fmt::Write as _;

use super::{Choices, Menu, MenuChoice};

/// The menu. GRUB names files as `(http,HOST[:PORT])/PATH`.
#[must_use]
pub fn grub(menu: &Menu, choices: &Choices) -> String {
    let address = menu
        .base
        .split_once("://")
        .map_or(menu.base.as_str(), |(_, address)| address);
    let (host, below) = match address.find('/') {
        Some(at) => address.split_at(at),
        None => (address, ""),
    };
    let server = format!("(http,{host}){below}");
    let timeout = if menu.timeout == 0 {
        -1
    } else {
        i64::from(menu.timeout)
    };
    let mut script = format!("set timeout={timeout}\nset default=0\ninsmod net\ninsmod http\n");
    if let Some(path) = &menu.again {
        script.push_str(&again(&server, path));
    }
    for choice in &choices.newest {
        script.push_str(&entry(menu, &server, choice, ""));
    }
    if !choices.older.is_empty() {
        script.push_str("submenu 'Older revisions' {\n");
        for choice in &choices.older {
            script.push_str(&entry(menu, &server, choice, "  "));
        }
        script.push_str("}\n");
    }
    script.push_str("menuentry 'Boot from the local disk' {\n  exit\n}\n");
    for line in &choices.unbootable {
        let _ = writeln!(script, "menuentry '{line}' {{\n  true\n}}");
    }
    script
}

/// Requests the menu of this machine. If the request fails, the rest of the script is the menu. The
/// UUID is empty if the firmware has no SMBIOS or GRUB lacks the module.
fn again(server: &str, path: &str) -> String {
    format!(
        "insmod smbios\nsmbios --type 1 --get-uuid 8 --set lf_uuid\nconfigfile \"{server}{path}?uuid=$lf_uuid&mac=$net_default_mac\"\n"
    )
}

fn entry(menu: &Menu, server: &str, choice: &MenuChoice, indent: &str) -> String {
    let mut script = format!("{indent}menuentry '{}' {{\n", choice.label);
    let line = choice.command_line(menu);
    // "a:b" in the host would be read as the end of the device's name without quotes.
    let _ = writeln!(
        script,
        "{indent}  linux '{server}{}' {line} BOOTIF=01-$net_default_mac",
        choice.kernel
    );
    let path = choice.initrd_of_known_card();
    let _ = writeln!(script, "{indent}  initrd '{server}{path}'");
    let _ = writeln!(script, "{indent}}}");
    script
}
