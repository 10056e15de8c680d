//! Menus as iPXE scripts.

use std::fmt::Write as _;

use super::{Choices, Menu, MenuChoice};

/// The menu: the newest revision of everything first, the first entry by default.
#[must_use]
pub fn ipxe(menu: &Menu, choices: &Choices) -> String {
    let Choices {
        newest,
        older,
        unbootable,
    } = choices;
    let mut script = format!("#!ipxe\nset base {}\n{}", menu.base, again(menu));
    let choices: Vec<&MenuChoice> = newest.iter().chain(older).collect();
    script.push_str(":menu\nmenu layerfs\n");
    let _ = writeln!(script, "item --gap -- Systems");
    for (index, choice) in choices.iter().enumerate() {
        if index == newest.len() {
            let _ = writeln!(script, "item --gap -- Older revisions");
        }
        let _ = writeln!(script, "item e{index} {}", choice.label);
    }
    if !unbootable.is_empty() {
        let _ = writeln!(script, "item --gap -- Not bootable");
    }
    for line in unbootable {
        let _ = writeln!(script, "item --gap -- {line}");
    }
    script.push_str("item --gap -- This machine\nitem disk Boot from the local disk\n");
    script.push_str("item shell iPXE shell\nitem reboot Reboot\n");
    let wait = match menu.timeout {
        0 => String::new(),
        seconds => format!(" --timeout {}", u64::from(seconds) * 1000),
    };
    let first = if choices.is_empty() { "disk" } else { "e0" };
    let _ = writeln!(
        script,
        "choose --default {first}{wait} chosen && goto ${{chosen}} || goto menu"
    );
    for (index, choice) in choices.iter().enumerate() {
        let _ = writeln!(script, ":e{index}");
        script.push_str(&entry(menu, choice));
    }
    script.push_str(":disk\nsanboot --no-describe --drive 0x80 || exit\n:reboot\nreboot\n");
    script.push_str(":shell\nshell\ngoto menu\n");
    script.push_str(":failed\necho Booting failed. Any key: back to the menu.\n");
    // In an empty classroom nobody presses a key, so the script retries automatically.
    script.push_str("prompt --timeout 30000 ||\nimgfree\ngoto menu\n");
    script
}

/// The script that boots one revision directly.
#[must_use]
pub(crate) fn ipxe_entry(menu: &Menu, choice: &MenuChoice) -> String {
    format!(
        "#!ipxe\nset base {}\n{}{}:failed\necho Booting failed\nshell\n",
        menu.base,
        again(menu),
        entry(menu, choice)
    )
}

/// The answer to a machine that requested a missing system: a menu of the existing ones. Nothing
/// starts automatically.
#[must_use]
pub(crate) fn ipxe_unknown(menu: &Menu, wanted: &str, choices: &Choices) -> String {
    let menu = Menu {
        timeout: 0,
        ..menu.clone()
    };
    let script = ipxe(&menu, choices);
    let title = format!("menu This server has no {wanted}. It has:");
    script.replacen("menu layerfs", &title, 1)
}

/// Requests the menu of this machine. If the request fails, the rest of the script is the menu.
fn again(menu: &Menu) -> String {
    let chain = |path: &String| {
        format!(
            "chain --replace ${{base}}{path}?uuid=${{uuid}}&mac=${{netX/mac:hexhyp}}&asset=${{asset:uristring}} ||\n"
        )
    };
    menu.again.as_ref().map(chain).unwrap_or_default()
}

fn entry(menu: &Menu, choice: &MenuChoice) -> String {
    let line = choice.command_line(menu);
    // The root's name in full, so that a change of ${base} by hand does not change the root.
    let mut script = String::from("imgfree\n");
    let _ = writeln!(
        script,
        "kernel --name kernel ${{base}}{} initrd=initrd {line} BOOTIF=01-${{netX/mac:hexhyp}} || goto failed",
        choice.kernel
    );
    let path = choice.initrd_of_card("${netX/busid:hexhyp}");
    let _ = writeln!(
        script,
        "initrd --name initrd ${{base}}{path} || goto failed"
    );
    script.push_str("boot || goto failed\n");
    script
}
