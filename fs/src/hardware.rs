//! The hardware names of this machine, read from /sys.

use std::path::Path;

use wire::machine::{Identity, MACS_MAX, Mac, asset_tag};

/// Reads the SMBIOS UUID, the asset tag and the network cards; the boot card is first.
pub(crate) fn identity() -> Identity {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    identity_in(Path::new("/sys"), &line)
}

/// The kernel's id of this boot; empty if the kernel has none.
pub(crate) fn boot_id() -> String {
    word(Path::new("/proc/sys/kernel/random/boot_id"))
}

fn identity_in(sys: &Path, command_line: &str) -> Identity {
    let dmi = sys.join("class/dmi/id");
    Identity {
        uuid: word(&dmi.join("product_uuid")).parse().ok(),
        macs: cards(sys, boot_card(command_line)),
        asset: asset_tag(&word(&dmi.join("chassis_asset_tag"))),
    }
}

/// The network card of the boot loader: `BOOTIF=01-52-54-00-12-34-56`.
fn boot_card(command_line: &str) -> Option<Mac> {
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
            // A card in a bond has its permanent address in this file.
            let own = word(&path.join("bonding_slave/perm_hwaddr")).parse();
            let mac = own.or_else(|_| word(&path.join("address")).parse()).ok()?;
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
}
