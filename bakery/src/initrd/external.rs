//! Modules outside the kernel package: those of DKMS and of vendors, in `updates/`, `extra/` or
//! `weak-updates/`.
//!
//! They are beside the kernel's own directories, so a list of these does not name them: the kernel
//! symbols that a driver uses reveal its kind.

/// Directories of `/lib/modules/RELEASE`, the one that wins first.
const DIRECTORIES: &[&str] = &["updates/", "extra/", "weak-updates/"];
/// Symbols of which every driver of a network card uses at least one.
const NETWORK_SYMBOLS: &[&str] = &[
    "register_netdev",
    "register_netdevice",
    "alloc_etherdev_mqs",
    "alloc_netdev_mqs",
    "usbnet_probe",
];
/// Symbols of which every driver of a disk uses at least one.
const STORAGE_SYMBOLS: &[&str] = &[
    "scsi_add_host_with_dma",
    "scsi_host_alloc",
    "ata_host_activate",
    "ahci_host_activate",
    "blk_mq_alloc_disk",
    "__blk_mq_alloc_disk",
    "__blk_alloc_disk",
    "device_add_disk",
    "nvme_init_ctrl",
];

/// Preference of a module over others of its name; the kernel's own have the lowest.
#[must_use]
pub(crate) fn rank(path: &str) -> usize {
    let place = DIRECTORIES.iter().position(|start| path.starts_with(start));
    place.unwrap_or(DIRECTORIES.len())
}

/// True if a module is not part of the kernel package.
#[must_use]
pub(crate) fn is_external(path: &str) -> bool {
    rank(path) < DIRECTORIES.len()
}

/// The directory of a module in the kernel's own tree: `updates/drivers/net/x.ko` in `drivers/net`.
#[must_use]
pub(crate) fn place_in_kernel(path: &str) -> &str {
    let mut starts = DIRECTORIES.iter().chain(&["kernel/"]);
    starts
        .find_map(|start| path.strip_prefix(start))
        .unwrap_or(path)
}

/// The devices that an external module drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Driver {
    /// A network card.
    pub network: bool,
    /// True if it drives disks.
    pub storage: bool,
}

/// Determines the devices of a module from the names in it.
#[must_use]
pub(crate) fn driver(module: &[u8]) -> Driver {
    let mut driver = Driver {
        network: false,
        storage: false,
    };
    // The names of symbols are in a table of texts, each ended by a NUL.
    for text in module.split(|byte| *byte == 0) {
        let is = |names: &[&str]| names.iter().any(|name| name.as_bytes() == text);
        driver.network |= is(NETWORK_SYMBOLS);
        driver.storage |= is(STORAGE_SYMBOLS);
    }
    driver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_known_by_what_they_ask_for() {
        let network = driver(b"\x7fELF\0printk\0register_netdev\0");
        assert_eq!((network.network, network.storage), (true, false));
        let disk = driver(b"\0scsi_host_alloc\0");
        assert_eq!((disk.network, disk.storage), (false, true));
        let other = driver(b"\0drm_dev_register\0unregister_netdevice\0");
        assert_eq!((other.network, other.storage), (false, false));
        assert!(rank("updates/dkms/a.ko") < rank("weak-updates/a.ko"));
        assert!(rank("extra/a.ko") < rank("kernel/drivers/a.ko"));
        assert_eq!(
            place_in_kernel("updates/drivers/net/ethernet/a.ko"),
            "drivers/net/ethernet/a.ko"
        );
    }
}
