//! The hardware names of a machine: SMBIOS UUID, MAC addresses, asset tag.
//!
//! `docs/FLEET.md` (F2) is the specification. Firmware spells these names in many ways. This module
//! gives each name one spelling, so that the menu, the mount and the operator name the same
//! machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Largest number of network cards of one machine.
pub const MACS_MAX: usize = 8;
/// Longest asset tag, bytes.
pub(crate) const ASSET_LEN_MAX: usize = 64;

/// Placeholders that makers leave in place of a UUID, besides all zeros and all ones.
const FILLERS: [&str; 3] = [
    "03000200-0400-0500-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "fefefefe-fefe-fefe-fefe-fefefefefefe",
];

/// The text is not a valid hardware name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid {1}")]
pub struct HardwareNameError(String, &'static str);

/// The UUID in the firmware's SMBIOS tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HardwareUuid([u8; 16]);

impl HardwareUuid {
    /// The same UUID with its first three fields in the other byte order.
    #[must_use]
    pub fn swapped(self) -> HardwareUuid {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let mut bytes = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
        for (to, from) in bytes.iter_mut().skip(8).zip(rest) {
            *to = from;
        }
        HardwareUuid(bytes)
    }
}

impl FromStr for HardwareUuid {
    type Err = HardwareNameError;

    /// Parses 32 hexadecimal digits, with or without hyphens. Refuses the placeholders of makers.
    fn from_str(text: &str) -> Result<Self, HardwareNameError> {
        let wrong = || HardwareNameError(text.chars().take(64).collect(), "SMBIOS UUID");
        let bytes = hex_bytes::<16>(text.trim(), "-").ok_or_else(wrong)?;
        let uuid = HardwareUuid(bytes);
        let is_filler = bytes.iter().all(|byte| *byte == 0)
            || bytes.iter().all(|byte| *byte == 0xff)
            || FILLERS.contains(&uuid.to_string().as_str())
            || FILLERS.contains(&uuid.swapped().to_string().as_str());
        if is_filler { Err(wrong()) } else { Ok(uuid) }
    }
}

impl fmt::Display for HardwareUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The address of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// The six bytes of the address.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = HardwareNameError;

    /// Parses 12 hexadecimal digits, with or without `:` or `-` between the bytes. Refuses group
    /// addresses and all zeros.
    fn from_str(text: &str) -> Result<Self, HardwareNameError> {
        let wrong =
            || HardwareNameError(text.chars().take(64).collect(), "address of a network card");
        let bytes = hex_bytes::<6>(text.trim(), ":-").ok_or_else(wrong)?;
        let [first, ..] = bytes;
        if first & 1 == 1 || bytes.iter().all(|byte| *byte == 0) {
            return Err(wrong());
        }
        Ok(Mac(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The PCI ids of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PciCard {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
}

impl PciCard {
    /// Parses the bus id of a network card as iPXE writes it (`01-80-86-10-d3`): the type of the
    /// bus, vendor and device. `None`: the bus is not PCI, or the text is not a bus id.
    #[must_use]
    pub fn of_bus_id(text: &str) -> Option<PciCard> {
        let [1, a, b, c, d] = hex_bytes::<5>(text, ":-")? else {
            return None;
        };
        let card = PciCard {
            vendor: u16::from_be_bytes([a, b]),
            device: u16::from_be_bytes([c, d]),
        };
        // What the bus answers for a device that is not there.
        (card.vendor != 0 && card.vendor != u16::MAX).then_some(card)
    }

    /// Formats the card as [`PciCard::of_bus_id`] parses it.
    #[must_use]
    pub fn bus_id(self) -> String {
        let ([a, b], [c, d]) = (self.vendor.to_be_bytes(), self.device.to_be_bytes());
        format!("01-{a:02x}-{b:02x}-{c:02x}-{d:02x}")
    }
}

impl FromStr for PciCard {
    type Err = HardwareNameError;

    /// Parses `8086:10d3`.
    fn from_str(text: &str) -> Result<Self, HardwareNameError> {
        let wrong = || HardwareNameError(text.chars().take(64).collect(), "pair of PCI ids");
        let (vendor, device) = text.split_once(':').ok_or_else(wrong)?;
        let card = PciCard::of_bus_id(&format!("01{vendor}{device}"));
        card.filter(|card| card.to_string() == text)
            .ok_or_else(wrong)
    }
}

impl fmt::Display for PciCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

/// The network card that the boot loader of a machine used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootCard {
    /// Its address.
    pub mac: Mac,
    /// Its PCI ids.
    pub pci: PciCard,
}

macro_rules! as_text {
    ($name:ident) => {
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = HardwareNameError;

            fn try_from(text: String) -> Result<Self, HardwareNameError> {
                text.parse()
            }
        }
    };
}
as_text!(HardwareUuid);
as_text!(Mac);
as_text!(PciCard);

/// The printable part of an asset tag, within its bound.
#[must_use]
pub fn asset_tag(text: &str) -> String {
    let printable = |c: &char| c.is_ascii_graphic() || *c == ' ';
    let asset: String = text.chars().filter(printable).take(ASSET_LEN_MAX).collect();
    asset.trim().to_owned()
}

/// The hardware names of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The UUID in its firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<HardwareUuid>,
    /// Its network cards; the boot card is first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<Mac>,
    /// The asset tag in its firmware.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub asset: String,
}

impl Identity {
    /// Parses the words of a boot loader; omits the invalid ones.
    #[must_use]
    pub fn of_words(uuid: &str, mac: &str, asset: &str) -> Identity {
        Identity {
            uuid: uuid.parse().ok(),
            macs: mac.parse().into_iter().collect(),
            asset: asset_tag(asset),
        }
    }

    /// True if the identity has a UUID or a network card.
    #[must_use]
    pub fn names_a_machine(&self) -> bool {
        self.uuid.is_some() || !self.macs.is_empty()
    }

    /// True if every field is within its bounds.
    pub(crate) fn is_sound(&self) -> bool {
        self.names_a_machine()
            && self.macs.len() <= MACS_MAX
            && self.asset.len() <= ASSET_LEN_MAX
            && !self.asset.chars().any(char::is_control)
    }
}

/// Parses `N` bytes in hexadecimal digits; skips separators.
fn hex_bytes<const N: usize>(text: &str, separators: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut digits = text.chars().filter(|c| !separators.contains(*c));
    for byte in &mut bytes {
        let high = digits.next()?.to_digit(16)?;
        let low = digits.next()?.to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    digits.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_has_one_spelling() {
        for text in [
            "4C4C4544-0042-3510-8051-B4C04F564433",
            "4c4c454400423510 8051b4c04f564433"
                .replace(' ', "")
                .as_str(),
        ] {
            let uuid: HardwareUuid = text.parse().unwrap();
            assert_eq!(uuid.to_string(), "4c4c4544-0042-3510-8051-b4c04f564433");
            assert_eq!(
                uuid.swapped().to_string(),
                "44454c4c-4200-1035-8051-b4c04f564433"
            );
            assert_eq!(uuid.swapped().swapped(), uuid);
        }
        for text in ["52-54-00-AB-cd-ef", "52:54:00:ab:cd:ef", "525400abcdef"] {
            assert_eq!(
                text.parse::<Mac>().unwrap().to_string(),
                "52:54:00:ab:cd:ef"
            );
        }
    }

    #[test]
    fn a_pci_card_has_two_spellings() {
        let card: PciCard = "8086:10d3".parse().unwrap();
        assert_eq!((card.vendor, card.device), (0x8086, 0x10d3));
        assert_eq!(card.bus_id(), "01-80-86-10-d3");
        for text in ["01-80-86-10-d3", "01:80:86:10:D3", "01808610d3"] {
            assert_eq!(PciCard::of_bus_id(text), Some(card), "{text}");
        }
        for text in [
            "",
            "8086",
            "8086:10D3",
            "808:610d3",
            "ffff:0001",
            "0000:10d3",
        ] {
            assert!(text.parse::<PciCard>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_makers_put_in_place_of_a_name_is_none() {
        for text in [
            "",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "03000200-0400-0500-0006-000700080009",
            "00020003-0004-0005-0006-000700080009",
            "To be filled by O.E.M.",
            "4c4c4544-0042-3510-8051-b4c04f56443",
            "4c4c4544-0042-3510-8051-b4c04f5644333",
        ] {
            assert!(text.parse::<HardwareUuid>().is_err(), "{text}");
        }
        for text in [
            "",
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "52:54",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
        let none = Identity::of_words("Not Settable", "", "\x1b[2J tag\n");
        assert_eq!((none.uuid, none.asset.as_str()), (None, "[2J tag"));
        assert!(!none.names_a_machine());
    }
}
