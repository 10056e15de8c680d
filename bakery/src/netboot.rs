//! Files for firmware and boot loaders: menus for iPXE, GRUB and pxelinux, and the configuration of
//! dnsmasq. Pure text from the contents of the store.
//!
//! Kernel and initramfs belong to a revision. Every entry names its revision and boots exactly that
//! root, so modules always match the kernel. A revision without our initramfs ([`initramfs`]) is
//! not an entry, because it would not find its root.

pub(crate) mod boot_card;
mod dnsmasq;
mod grub;
pub(crate) mod initramfs;
mod ipxe;
mod page;
mod pxelinux;

pub(crate) use dnsmasq::{Dhcp, dnsmasq};
pub use grub::grub;
pub use ipxe::ipxe;
pub(crate) use ipxe::{ipxe_entry, ipxe_unknown};
pub(crate) use page::{PageEntry, page, plain};
pub(crate) use pxelinux::pxelinux;

use wire::machine::PciCard;
use wire::manifest::{Manifest, ProfileName, RevisionName};
use wire::paths::ObjectPath;

use crate::human;

/// Longest label shown in a menu, characters.
const LABEL_LEN_MAX: usize = 72;

/// One thing to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuChoice {
    /// Its name, with the revision.
    pub name: RevisionName,
    /// The text shown to users.
    pub label: String,
    /// Path of the kernel on the server.
    pub kernel: String,
    /// Path of the initrd on the server.
    pub initrd: String,
    /// True if the server sends a machine only the parts of the initramfs that its card needs.
    pub is_divided: bool,
    /// The card of the machine that requests the menu, if the server knows it.
    pub card: Option<PciCard>,
    /// Kernel parameters of the revision.
    pub cmdline: String,
    /// False if a machine that boots this revision keeps it: it is an older one, an assigned one, or
    /// that of a return.
    pub follows: bool,
}

/// The contents of menus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// The newest revision of everything that boots.
    pub newest: Vec<MenuChoice>,
    /// The ones before.
    pub older: Vec<MenuChoice>,
    /// Systems that cannot be booted, with the remedy: one line each.
    pub unbootable: Vec<String>,
}

/// Settings of a menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    /// URL of the server for clients: `http://host:port`, without a slash at the end.
    pub base: String,
    /// Seconds until the first entry is started; 0: never.
    pub timeout: u32,
    /// The path at which the loader repeats its request with the names of its hardware; none: the request has
    /// them, or the server does not ask for them.
    pub again: Option<String>,
}

/// The kernel parameter with which a machine follows the newest revision.
const FOLLOW: &str = "layerfs.follow=";

impl MenuChoice {
    /// The menu entry of a revision. The initramfs is not inspected.
    ///
    /// # Errors
    /// It has no kernel or no initramfs: the line for [`Choices::unbootable`].
    pub fn of(manifest: &Manifest) -> Result<Self, String> {
        let name = RevisionName {
            name: manifest.name(),
            revision: Some(manifest.revision),
        };
        let (Some(kernel), Some(initrd)) = (manifest.kernel, manifest.initrd) else {
            return Err(Self::needs_initrd(
                manifest,
                "has no kernel or no initramfs",
            ));
        };
        Ok(Self {
            name,
            label: label(manifest),
            kernel: ObjectPath::Boot(kernel.digest).url(),
            initrd: ObjectPath::Boot(initrd.digest).url(),
            is_divided: false,
            card: None,
            cmdline: safe_parameters(&manifest.cmdline),
            follows: true,
        })
    }

    /// Adds kernel parameters behind those of the revision.
    pub fn add_parameters(&mut self, parameters: &str) {
        let line = format!("{} {}", self.cmdline, safe_parameters(parameters));
        line.trim().clone_into(&mut self.cmdline);
    }

    /// Path of the initrd for a loader that names its card by the expression `card`.
    #[must_use]
    pub fn initrd_of_card(&self, card: &str) -> String {
        let query = boot_card::query(&self.cmdline, card).filter(|_| self.is_divided);
        let Some(query) = query else {
            return self.initrd.clone();
        };
        let mark = if self.initrd.contains('?') { '&' } else { '?' };
        format!("{}{mark}{query}", self.initrd)
    }

    /// Path of the initrd for a loader that cannot name its card.
    #[must_use]
    pub fn initrd_of_known_card(&self) -> String {
        match self.card {
            Some(card) => self.initrd_of_card(&card.bus_id()),
            None => self.initrd.clone(),
        }
    }

    /// The reason why a revision is not an entry.
    #[must_use]
    pub fn needs_initrd(manifest: &Manifest, why: &str) -> String {
        let name = manifest.name();
        format!("{name} {why}: run bakery initrd {name}")
    }

    /// The whole kernel command line except parameters that only the boot loader knows.
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
        if given(FOLLOW) && !self.follows {
            // The last one counts.
            line.push_str(&format!(" {FOLLOW}no"));
        }
        line
    }
}

/// System, revision, date and message.
fn label(manifest: &Manifest) -> String {
    let date = human::time(manifest.time);
    let date = date.split(' ').next().unwrap_or_default();
    let words = manifest.message.lines().next().unwrap_or_default();
    let name = manifest.name();
    let title = format!("{name} revision {}, {date}  {words}", manifest.revision);
    let title = title.trim_end().chars().filter(|one| is_harmless(*one));
    title.take(LABEL_LEN_MAX).collect()
}

/// Characters without meaning in any boot loader's script.
fn is_harmless(one: char) -> bool {
    one.is_ascii_alphanumeric() || " .,:-_/()@+=".contains(one)
}

/// Parameters that no boot loader would interpret.
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

/// The address in a `Host` header, if it has the form of one.
#[must_use]
pub(crate) fn base_of_host(host: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    let sound = !host.is_empty() && host.len() <= 255 && host.bytes().all(allowed);
    sound.then(|| format!("http://{host}"))
}

/// True if a `Host` has a port; the colons of an IPv6 address are in brackets.
#[must_use]
pub(crate) fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| !port.contains(']'))
}

/// Succeeds if a URL can be used in menus.
///
/// # Errors
/// It cannot; the message gives the form.
pub(crate) fn require_url(url: &str) -> Result<(), String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("the URL '{url}' has no scheme: write http://{url}"));
    };
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'`${}\\,#;&|<>".contains(&byte);
    if !matches!(scheme, "http" | "https") || rest.is_empty() || !rest.bytes().all(plain) {
        return Err(format!(
            "firmware cannot load from the URL '{url}': write http://HOST[:PORT]"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
