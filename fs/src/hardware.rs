//! The hardware names of this machine, read from /sys.

use std::path::Path;

use wire::machine::{BootCard, Identity, MACS_MAX, Mac, PciCard, asset_tag};

/// Reads the SMBIOS UUID, the asset tag and the network cards; the boot card is first.
pub(crate) fn identity() -> Identity {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    identity_in(Path::new("/sys"), &line)
}

/// The network card that the boot loader used; `None` if it is unknown or no PCI card.
pub(crate) fn boot_card() -> Option<BootCard> {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    boot_card_in(Path::new("/sys"), &line)
}

/// The kernel's id of this boot; empty if the kernel has none.
pub(crate) fn boot_id() -> String {
    word(Path::new("/proc/sys/kernel/random/boot_id"))
}

fn identity_in(sys: &Path, command_line: &str) -> Identity {
    let dmi = sys.join("class/dmi/id");
    Identity {
        uuid: word(&dmi.join("product_uuid")).parse().ok(),
        macs: cards(sys, boot_address(command_line)),
        asset: asset_tag(&word(&dmi.join("chassis_asset_tag"))),
    }
}

/// Finds the card with the boot loader's address. `None` also if two cards have it (Hyper-V's and the
/// one behind it): the machine needs the drivers of both.
fn boot_card_in(sys: &Path, command_line: &str) -> Option<BootCard> {
    let mac = boot_address(command_line)?;
    let devices = std::fs::read_dir(sys.join("class/net"))
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let own = own_address(&path)?;
            let device = path.join("device").canonicalize().ok()?;
            (own == mac).then_some(device)
        });
    let devices: Vec<_> = devices.collect();
    let [device] = &devices[..] else {
        return None;
    };
    let bus = |device: &Path| {
        Some(
            device
                .join("subsystem")
                .canonicalize()
                .ok()?
                .ends_with("bus/pci"),
        )
    };
    // A virtio device is below its PCI card.
    let mut places = [Some(device.as_path()), device.parent()]
        .into_iter()
        .flatten();
    let place = places.find(|place| bus(place) == Some(true))?;
    let id = |name: &str| word(&place.join(name)).trim_start_matches("0x").to_owned();
    let pci = format!("{}:{}", id("vendor"), id("device"));
    Some(BootCard {
        mac,
        pci: pci.parse::<PciCard>().ok()?,
    })
}

/// The address of the boot loader's network card: `BOOTIF=01-52-54-00-12-34-56`.
fn boot_address(command_line: &str) -> Option<Mac> {
    let mut words = command_line.split_whitespace();
    let value = words.find_map(|word| word.strip_prefix("BOOTIF="))?;
    let address = value.get(3..).filter(|_| value.len() == 20);
    address.unwrap_or(value).parse().ok()
}

/// The addresses of the physical network cards. A machine without any (a container) has those of
/// its virtual ones.
fn cards(sys: &Path, first: Option<Mac>) -> Vec<Mac> {
    let Ok(entries) = std::fs::read_dir(sys.join("class/net")) else {
        return first.into_iter().collect();
    };
    let mut found: Vec<(bool, u32, Mac)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let mac = own_address(&path)?;
            let number = word(&path.join("ifindex")).parse().unwrap_or(u32::MAX);
            Some((!path.join("device").exists(), number, mac))
        })
        .collect();
    found.sort_unstable();
    let mut macs: Vec<Mac> = first.into_iter().collect();
    let all_virtual = found.iter().all(|(is_virtual, ..)| *is_virtual);
    for (is_virtual, _, mac) in found {
        if is_virtual == all_virtual && !macs.contains(&mac) && macs.len() < MACS_MAX {
            macs.push(mac);
        }
    }
    macs
}

/// The address of the card at `path`. A card in a bond has its permanent address in another file.
fn own_address(path: &Path) -> Option<Mac> {
    let own = word(&path.join("bonding_slave/perm_hwaddr")).parse();
    own.or_else(|_| word(&path.join("address")).parse()).ok()
}

fn word(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_card_is_first_and_what_is_no_card_is_left_out() {
        let sys = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = sys.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(
            "class/dmi/id/product_uuid",
            "4C4C4544-0042-3510-8051-B4C04F564433\n",
        );
        put("class/dmi/id/chassis_asset_tag", "PC 17\n");
        for (name, index, mac) in [
            ("lo", "1", "00:00:00:00:00:00"),
            ("eth0", "2", "52:54:00:00:00:01"),
            ("eth1", "3", "52:54:00:00:00:02"),
            ("br0", "4", "52:54:00:00:00:03"),
        ] {
            put(&format!("class/net/{name}/ifindex"), index);
            put(&format!("class/net/{name}/address"), mac);
            if name.starts_with("eth") {
                put(&format!("class/net/{name}/device/vendor"), "0x8086");
            }
        }
        let macs = |line: &str| -> Vec<String> {
            let identity = identity_in(sys.path(), line);
            identity.macs.iter().map(Mac::to_string).collect()
        };
        let first = ["52:54:00:00:00:01", "52:54:00:00:00:02"];
        let second = ["52:54:00:00:00:02", "52:54:00:00:00:01"];
        assert_eq!(macs("quiet"), first);
        assert_eq!(macs("quiet BOOTIF=01-52-54-00-00-00-02"), second);
        assert_eq!(macs("BOOTIF=01-52:54:00:00:00:02 ro"), second);
        assert_eq!(macs("BOOTIF=52-54-00-00-00-02"), second);
        assert_eq!(macs("BOOTIF=01-"), first);
        for name in ["eth0", "eth1"] {
            std::fs::remove_dir_all(sys.path().join(format!("class/net/{name}/device"))).unwrap();
        }
        let virtual_ones = [first[0], first[1], "52:54:00:00:00:03"];
        assert_eq!(macs(""), virtual_ones);
        let identity = identity_in(sys.path(), "");
        assert_eq!(identity.asset, "PC 17");
        assert!(identity.uuid.is_some());
        let none = identity_in(Path::new("/nonexistent"), "");
        assert!(!none.names_a_machine());
    }
    #[test]
    fn the_boot_card_is_a_pci_card_alone_with_its_address() {
        use std::os::unix::fs::symlink;
        let sys = tempfile::tempdir().unwrap();
        let root = sys.path();
        let make = |path: &str| std::fs::create_dir_all(root.join(path)).unwrap();
        for bus in ["pci", "virtio", "usb", "vmbus"] {
            make(&format!("bus/{bus}"));
        }
        let device = |path: &str, bus: &str, vendor: &str, device: &str| {
            make(path);
            std::fs::write(root.join(path).join("vendor"), format!("0x{vendor}\n")).unwrap();
            std::fs::write(root.join(path).join("device"), format!("0x{device}\n")).unwrap();
            symlink(
                root.join("bus").join(bus),
                root.join(path).join("subsystem"),
            )
            .unwrap();
        };
        let card = |name: &str, mac: &str, path: Option<&str>| {
            let at = format!("class/net/{name}");
            make(&at);
            std::fs::write(root.join(&at).join("address"), mac).unwrap();
            if let Some(path) = path {
                symlink(root.join(path), root.join(&at).join("device")).unwrap();
            }
        };
        device("devices/p/0", "pci", "8086", "10d3");
        device("devices/p/1", "pci", "1af4", "1041");
        device("devices/p/1/virtio0", "virtio", "1af4", "0001");
        device("devices/p/2", "pci", "8086", "1e31");
        device("devices/p/2/usb1/1-1", "usb", "0bda", "8153");
        device("devices/h", "vmbus", "0000", "0000");
        device("devices/p/3", "pci", "15b3", "1016");
        card("eth0", "52:54:00:00:00:01", Some("devices/p/0"));
        card("eth1", "52:54:00:00:00:02", Some("devices/p/1/virtio0"));
        card("usb0", "52:54:00:00:00:03", Some("devices/p/2/usb1/1-1"));
        card("eth3", "52:54:00:00:00:04", Some("devices/h"));
        card("eth4", "52:54:00:00:00:04", Some("devices/p/3"));
        card("bond0", "52:54:00:00:00:01", None);
        let found = |last: u8| {
            let line = format!("quiet BOOTIF=01-52-54-00-00-00-{last:02x}");
            boot_card_in(root, &line).map(|card| card.pci.to_string())
        };
        assert_eq!(found(1).as_deref(), Some("8086:10d3"), "a bond is no card");
        assert_eq!(found(2).as_deref(), Some("1af4:1041"), "virtio");
        assert_eq!(found(3), None, "USB");
        assert_eq!(found(4), None, "two cards with one address");
        assert_eq!(found(5), None);
        assert_eq!(boot_card_in(root, "quiet"), None);
    }
}
