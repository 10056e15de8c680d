//! What firmware reads before there is a layerfs: menus for iPXE, GRUB and pxelinux, and
//! dnsmasq's configuration. Pure text from what the store has.
//!
//! Kernel and initrd belong to a revision, so every entry names its revision, and the root it
//! boots is exactly that one: modules always match the kernel.

mod dnsmasq;
mod grub;
mod ipxe;
mod pxelinux;

pub use dnsmasq::{Dhcp, dnsmasq};
pub use grub::grub;
pub use ipxe::{ipxe, ipxe_entry};
pub use pxelinux::pxelinux;

use layerfmt::manifest::{Manifest, ProfileName, RevisionName};

/// Longest label shown in a menu, characters.
const LABEL_LEN_MAX: usize = 72;

/// One thing to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name, with the revision.
    pub name: RevisionName,
    /// What a person reads.
    pub label: String,
    /// Path of the kernel on the server.
    pub kernel: String,
    /// Path of the initrd on the server, if the revision has one of its own.
    pub initrd: Option<String>,
    /// Kernel parameters of the revision.
    pub cmdline: String,
}

/// How a menu behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    /// How clients reach the server: `http://host:port`, no slash at the end.
    pub base: String,
    /// Seconds until the first entry is started; 0: never.
    pub timeout: u32,
}

impl Choice {
    /// What a revision offers; `None` if it has no kernel.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Option<Self> {
        let name = RevisionName {
            name: manifest.name(),
            revision: Some(manifest.revision),
        };
        let words = manifest.message.lines().next().unwrap_or_default();
        let title = format!(
            "{} revision {}  {words}",
            manifest.name(),
            manifest.revision
        );
        Some(Self {
            name,
            label: title
                .chars()
                .filter(|one| is_harmless(*one))
                .take(LABEL_LEN_MAX)
                .collect(),
            kernel: format!("/boot/{}", manifest.kernel?.digest),
            initrd: manifest
                .initrd
                .map(|initrd| format!("/boot/{}", initrd.digest)),
            cmdline: safe_parameters(&manifest.cmdline),
        })
    }

    /// The whole kernel command line but what only the boot loader knows.
    #[must_use]
    pub fn command_line(&self, menu: &Menu) -> String {
        let ProfileName { system, profile } = &self.name.name;
        let revision = self
            .name
            .revision
            .map(|revision| format!("@{revision}"))
            .unwrap_or_default();
        let given = |name: &str| self.cmdline.split(' ').any(|one| one.starts_with(name));
        let mut line = format!("root=layerfs:{}/{system}/{profile}{revision}", menu.base);
        if !given("ip=") {
            line.push_str(" ip=dhcp");
        }
        if !self.cmdline.is_empty() {
            line.push(' ');
            line.push_str(&self.cmdline);
        }
        line
    }
}

/// Characters that mean nothing to any boot loader's script.
fn is_harmless(one: char) -> bool {
    one.is_ascii_alphanumeric() || " .,:-_/()@+=".contains(one)
}

/// The parameters that no boot loader would take for part of its own language.
fn safe_parameters(cmdline: &str) -> String {
    let safe = |word: &&str| {
        word.chars()
            .all(|one| one.is_ascii_graphic() && !"${}`\\'\"|&;<>".contains(one))
    };
    cmdline
        .split_whitespace()
        .filter(safe)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A server's address out of a `Host` header, if it can only be one.
#[must_use]
pub fn base_of_host(host: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    let sound = !host.is_empty() && host.len() <= 255 && host.bytes().all(allowed);
    sound.then(|| format!("http://{host}"))
}

#[cfg(test)]
mod tests;
