//! GRUB's configuration, for firmware that loads GRUB over the network.

use std::fmt::Write as _;

use super::{Choice, Menu};

/// The menu. GRUB names files as `(http,host:port)/path`.
#[must_use]
pub fn grub(menu: &Menu, newest: &[Choice], older: &[Choice]) -> String {
    let host = menu
        .base
        .split_once("://")
        .map_or(menu.base.as_str(), |(_, host)| host);
    let timeout = if menu.timeout == 0 {
        -1
    } else {
        i64::from(menu.timeout)
    };
    let mut script = format!("set timeout={timeout}\nset default=0\ninsmod net\ninsmod http\n");
    for choice in newest {
        script.push_str(&entry(menu, host, choice, ""));
    }
    if !older.is_empty() {
        script.push_str("submenu 'Older revisions' {\n");
        for choice in older {
            script.push_str(&entry(menu, host, choice, "  "));
        }
        script.push_str("}\n");
    }
    script.push_str("menuentry 'Boot from the local disk' {\n  exit\n}\n");
    script
}

fn entry(menu: &Menu, host: &str, choice: &Choice, indent: &str) -> String {
    let mut script = format!("{indent}menuentry '{}' {{\n", choice.label);
    let line = choice.command_line(menu);
    // "a:b" in the host would be read as the end of the device's name without quotes.
    let _ = writeln!(
        script,
        "{indent}  linux '(http,{host}){}' {line} BOOTIF=01-$net_default_mac",
        choice.kernel
    );
    if let Some(path) = &choice.initrd {
        let _ = writeln!(script, "{indent}  initrd '(http,{host}){path}'");
    }
    let _ = writeln!(script, "{indent}}}");
    script
}
