//! The initramfs of one machine: requests for it, and the entries that may ask for it.
//!
//! A boot loader names the network card that it booted from. The parameters of an entry decide if the
//! initramfs needs the driver of this card only, or other hardware too (`docs/BOOT.md`).

use wire::machine::PciCard;

use crate::initrd::part_table::MachineNeeds;

/// The key of the card in the query of an initramfs.
const CARD: &str = "card";
/// The word in the query of an initramfs that has to mount a disk.
const DISKS: &str = "disks";
/// Values of `ip=` that mean the boot card.
const METHODS: &[&str] = &[
    "dhcp", "on", "any", "dhcp4", "both", "dhcp6", "auto6", "ra", "either6",
];
/// Parameters that may name another card, or for which a person looks around in the initramfs.
const WHOLE: &[&str] = &[
    "BOOTIF=",
    "ifname=",
    "route=",
    "rd.route=",
    "vlan=",
    "bond=",
    "bridge=",
    "team=",
    "automatic=",
    "layerfs=",
    "layerfs.shell",
];
/// Parameters that name a disk, with the values that do not.
const DISK: &[(&str, &[&str])] = &[
    ("layerfs.upper=", &["tmpfs", "none"]),
    ("layerfs.cache=", &["ram", "none"]),
    ("layerfs.backup=", &[]),
    ("overlayroot=", &["tmpfs", "disabled"]),
    ("live_rw", &[]),
];

/// The query with which an entry with these parameters asks for the initramfs of its machine; `card` is
/// the loader's expression for the bus id of its card. `None`: it needs the whole initramfs.
#[must_use]
pub(super) fn query(parameters: &str, card: &str) -> Option<String> {
    let words = || parameters.split(' ');
    let other_card = |word: &str| match word.strip_prefix("ip=") {
        Some(method) => !METHODS.contains(&method),
        None => WHOLE.iter().any(|start| word.starts_with(start)),
    };
    if words().any(other_card) {
        return None;
    }
    let names_disk = |word: &str| {
        let mut known = DISK.iter();
        let found = known.find_map(|(start, none)| Some((word.strip_prefix(start)?, none)));
        found.is_some_and(|(value, none)| {
            let kind = value.split([':', ',']).next();
            kind.is_none_or(|kind| !none.contains(&kind))
        })
    };
    let disks = if words().any(names_disk) {
        format!("&{DISKS}")
    } else {
        String::new()
    };
    Some(format!("{CARD}={card}{disks}"))
}

/// The machine in the query of a request for an initramfs; `None`: the query names no PCI card.
#[must_use]
pub(crate) fn machine(query: &str) -> Option<MachineNeeds> {
    let mut words = query.split('&');
    let card = words.find_map(|word| word.strip_prefix(CARD)?.strip_prefix('='))?;
    Some(MachineNeeds {
        card: PciCard::of_bus_id(card)?,
        disks: query.split('&').any(|word| word == DISKS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_asks_for_what_its_parameters_need() {
        let whole = [
            "ip=eth1:dhcp",
            "ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:off",
            "quiet BOOTIF=01-52-54-00-00-00-02",
            "ifname=lan:52:54:00:00:00:02",
            "layerfs.shell=start",
            "automatic=method:disk,label:x",
            "ip=off",
        ];
        for line in whole {
            assert_eq!(query(line, "X"), None, "{line}");
        }
        let card_only = [
            "",
            "quiet ip=dhcp",
            "layerfs.upper=tmpfs:2g layerfs.cache=ram:16m",
            "layerfs.upper=tmpfs,kernel",
            "layerfs.upper=tmpfs:2g,kernel",
            "layerfs.upper=none layerfs.cache=none overlayroot=tmpfs",
        ];
        for line in card_only {
            assert_eq!(query(line, "X").as_deref(), Some("card=X"), "{line}");
        }
        let disks = [
            "layerfs.upper=LABEL=data",
            "layerfs.upper=LABEL=tmpfs,kernel",
            "layerfs.cache=/dev/vda",
            "quiet layerfs.backup=UUID=1",
            "live_rw",
            "overlayroot=/dev/sda1",
        ];
        for line in disks {
            assert_eq!(query(line, "X").as_deref(), Some("card=X&disks"), "{line}");
        }
    }

    #[test]
    fn a_query_names_a_pci_card_or_none() {
        let e1000e = PciCard {
            vendor: 0x8086,
            device: 0x10d3,
        };
        for (text, disks) in [
            ("card=01-80-86-10-d3", false),
            ("card=01:80:86:10:D3&disks", true),
            ("initramfs=pc17&revision=a/main@1&card=01808610d3", false),
        ] {
            let card = e1000e;
            assert_eq!(machine(text), Some(MachineNeeds { card, disks }), "{text}");
        }
        for text in [
            "",
            "card=",
            "card=${netX/busid:hexhyp}",
            "card=0a-0b-da-81-53",
            "card=01-ff-ff-ff-ff",
            "card=01-00-00-10-d3",
            "card=01-80-86-10",
            "card=01-80-86-10-d3-00",
            "card=01-80-86-10-dg",
            "cards=01-80-86-10-d3",
        ] {
            assert_eq!(machine(text), None, "{text}");
        }
    }
}
