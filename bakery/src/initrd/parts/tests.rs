//! The parts of an initramfs, in trees made for it.

use super::super::modules::Modules;
use wire::machine::PciCard;

use super::super::part_table::{DividedInitramfs, MachineNeeds};
use super::super::system_tree::DirectoryTree;
use super::super::{Drivers, InitrdRecipe, archive, content, decompress};
use super::*;

/// A module with these fields in `.modinfo` and these symbols.
fn module(fields: &[&str], symbols: &[&str]) -> Vec<u8> {
    let joined = |texts: &[&str]| texts.join("\0") + "\0";
    let info = joined(fields);
    let names = "\0.modinfo\0.shstrtab\0";
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0);
    elf.extend(info.bytes());
    let names_at = elf.len();
    elf.extend(names.bytes());
    elf.push(0);
    elf.extend(joined(symbols).bytes());
    let sections_at = elf.len();
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(40, &(sections_at as u64).to_le_bytes());
    put(58, &64_u16.to_le_bytes());
    put(60, &3_u16.to_le_bytes());
    put(62, &2_u16.to_le_bytes());
    for (name, at, len) in [(0, 0, 0), (1, 64, info.len()), (10, names_at, names.len())] {
        let mut section = [0; 64];
        section[..4].copy_from_slice(&u32::to_le_bytes(name));
        section[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        section[32..40].copy_from_slice(&(len as u64).to_le_bytes());
        elf.extend(section);
    }
    elf
}

/// Module, dependencies, fields of `.modinfo`, symbols, aliases.
type Line = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

const LINES: &[Line] = &[
    (
        "drivers/net/virtio_net",
        "drivers/net/core/failover",
        &[],
        &[],
        &["virtio:d00000001v*"],
    ),
    ("drivers/net/core/failover", "", &[], &[], &[]),
    (
        "drivers/net/ethernet/intel/e1000e",
        "drivers/ptp/ptp",
        &[],
        &["printk"],
        &["pci:v00008086d000010D3sv*sd*bc*sc*i*"],
    ),
    (
        "drivers/net/ethernet/intel/old",
        "",
        &[],
        &[],
        &[
            "pci:v00008086d000010D3sv*sd*bc02sc00i*",
            "pci:v*d*sv*sd*bc02sc00i01*",
            "pci:v00008086d*sv*sd*bc02sc00i*",
            "pci:v*d00008168sv000013D1sd*bc*sc*i*",
            "pci:v00001111d00002222sv*sd*bc0Csc03i*",
        ],
    ),
    ("drivers/ptp/ptp", "", &[], &[], &[]),
    (
        "drivers/net/ethernet/broadcom/tg3",
        "drivers/ptp/ptp drivers/net/phy/libphy",
        &["firmware=tigon/tg3.bin", "firmware=shared.bin"],
        &["phy_connect"],
        &["pci:v000014E4d00001600sv*sd*bc*sc*i*"],
    ),
    (
        "drivers/net/ethernet/realtek/r8169",
        "drivers/net/phy/libphy",
        &["softdep=pre: realtek"],
        &["phy_connect_direct"],
        &["pci:v000010ECd00008168sv*sd*bc*sc*i*"],
    ),
    ("drivers/net/phy/libphy", "", &[], &["phy_connect"], &[]),
    (
        "drivers/net/phy/realtek",
        "drivers/net/phy/libphy",
        &[],
        &["phy_modify"],
        &["mdio:0000000000011100"],
    ),
    (
        "drivers/net/phy/broadcom",
        "drivers/net/phy/libphy",
        &["firmware=phy.bin"],
        &[],
        &["mdio:0000000101"],
    ),
    (
        "drivers/net/ethernet/mellanox/mlx4_core",
        "",
        &["firmware=shared.bin"],
        &[],
        &["pci:v000015B3d00001003sv*sd*bc*sc*i*"],
    ),
    (
        "drivers/net/ethernet/mellanox/mlx4_en",
        "drivers/net/ethernet/mellanox/mlx4_core drivers/ptp/ptp",
        &[],
        &[],
        &[],
    ),
    (
        "drivers/net/ethernet/x/parent",
        "",
        &[],
        &[],
        &["pci:v00001DD8d00000001sv*sd*bc*sc*i*"],
    ),
    (
        "drivers/net/ethernet/x/child",
        "",
        &[],
        &[],
        &["auxiliary:parent.eth"],
    ),
    (
        "drivers/net/ethernet/cavium/bgx",
        "",
        &[],
        &[],
        &["pci:v0000177Dd0000A026sv*sd*bc*sc*i*"],
    ),
    (
        "drivers/net/ethernet/cavium/nicvf",
        "",
        &[],
        &[],
        &["pci:v0000177Dd0000A034sv*sd*bc*sc*i*"],
    ),
    (
        "drivers/net/ethernet/8390/ne",
        "",
        &[],
        &[],
        &["isapnp:NE2000"],
    ),
    ("drivers/net/xen_netfront", "", &[], &[], &["xen:vif"]),
    (
        "drivers/net/hyperv/hv_netvsc",
        "",
        &[],
        &[],
        &["vmbus:aabb"],
    ),
    ("fs/ext4/ext4", "fs/jbd2/jbd2", &[], &[], &[]),
    ("fs/jbd2/jbd2", "", &[], &[], &[]),
    (
        "drivers/ata/ahci",
        "drivers/ptp/ptp",
        &[],
        &[],
        &["pci:v*d*sv*sd*bc01sc06i01*"],
    ),
];

/// The divided initramfs of [`LINES`], with its bytes.
fn sample(drivers: Drivers) -> (DividedInitramfs, Vec<u8>) {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, bytes: &[u8]| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let (mut dep, mut alias) = (String::new(), String::new());
    let path = |name: &str| format!("kernel/{name}.ko");
    for (name, needs, fields, symbols, aliases) in LINES {
        let needs: Vec<String> = needs.split_whitespace().map(path).collect();
        dep += &format!("{}: {}\n", path(name), needs.join(" "));
        let short = name.rsplit('/').next().unwrap();
        for one in *aliases {
            alias += &format!("alias {one} {short}\n");
        }
        let bytes = module(fields, symbols);
        put(&format!("lib/modules/6.1.0/{}", path(name)), &bytes);
    }
    put("lib/modules/6.1.0/modules.dep", dep.as_bytes());
    put("lib/modules/6.1.0/modules.alias", alias.as_bytes());
    let builtin = b"kernel/fs/fuse/fuse.ko\nkernel/drivers/virtio/virtio_pci.ko\n";
    put("lib/modules/6.1.0/modules.builtin", builtin);
    for name in ["tigon/tg3.bin", "shared.bin", "phy.bin"] {
        put(&format!("lib/firmware/{name}"), name.as_bytes());
    }
    let tree = DirectoryTree::open(root.path()).unwrap();
    let recipe = InitrdRecipe {
        kernel: None,
        drivers,
        storage: true,
        extra_modules: Vec::new(),
        firmware: true,
        layerfs: "layerfs".into(),
        busybox: None,
        trust: None,
        built: None,
        level: Some(1),
    };
    let known = Modules::read(&tree, "6.1.0").unwrap();
    let chosen = known.choose(&tree, &recipe).unwrap();
    let mut base = CpioArchive::new(0);
    let mut report = super::super::InitrdReport::of("6.1.0".into(), &chosen);
    let mut packed = content::modules(&mut base, &known, &chosen.modules, &mut report);
    packed.extend(content::firmware(&mut base, &tree, &chosen.modules, &mut report).unwrap());
    let needs = Needs::new(&known, &chosen);
    let zstd = Compression::Zstd(1);
    let (_, archive) = divide(&needs, packed, (0, zstd)).unwrap();
    let bytes = [archive, zstd.of_data(&base.finish()).unwrap()].concat();
    (DividedInitramfs::read(&bytes).unwrap().unwrap(), bytes)
}

/// The names of modules and firmware in the initramfs for a card, as a kernel unpacks it.
fn files(sample: &(DividedInitramfs, Vec<u8>), ids: (u16, u16), disks: bool) -> Option<String> {
    let (divided, bytes) = sample;
    let (vendor, device) = ids;
    let card = PciCard { vendor, device };
    let places = divided.cut(MachineNeeds { card, disks })?;
    let mut names = BTreeSet::new();
    for place in places {
        let cut = bytes[place.start as usize..place.end as usize].to_vec();
        let raw = decompress::decompress(".zst", cut).unwrap();
        let mut rest = raw.as_slice();
        while !rest.is_empty() {
            let (members, end) = archive::members(rest).unwrap();
            for (name, _) in members {
                let file = name.rsplit('/').next().unwrap();
                if file.contains(".ko") || file.contains(".bin") {
                    names.insert(file.trim_end_matches(".ko").to_owned());
                }
            }
            rest = &rest[end..];
        }
    }
    Some(names.into_iter().collect::<Vec<_>>().join(" "))
}

/// Each case names a rule of BOOT.md, "An initramfs for one machine".
#[test]
fn a_card_gets_all_that_its_driver_may_need_and_no_other_driver() {
    let all = sample(Drivers::All);
    let of = |vendor, device| files(&all, (vendor, device), false);
    let with = |names: &str| Some(format!("failover {names}"));
    let case = |found: Option<String>, names: &str| {
        let sorted = |text: &str| {
            let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            words.sort();
            words
        };
        assert_eq!(sorted(&found.unwrap()), sorted(&with(names).unwrap()));
    };
    case(of(0x1af4, 0x1000), "virtio_net");
    case(of(0x1af4, 0x1041), "virtio_net");
    // Two drivers for one card; Xen may replace the card by its own.
    case(of(0x8086, 0x10d3), "virtio_net e1000e old ptp xen_netfront");
    // An alias with a device is for that device, of whatever class.
    case(of(0x1111, 0x2222), "virtio_net old xen_netfront");
    // The kernel loads the PHY's driver by a number that nobody knows here.
    case(
        of(0x14e4, 0x1600),
        "virtio_net tg3 ptp libphy realtek broadcom tg3.bin shared.bin phy.bin xen_netfront",
    );
    // The alias of "old" for this device of any vendor may be the card's.
    case(
        of(0x10ec, 0x8168),
        "virtio_net r8169 old libphy realtek xen_netfront",
    );
    // Modules above the driver, and on devices that it creates.
    case(
        of(0x15b3, 0x1003),
        "virtio_net mlx4_core mlx4_en ptp shared.bin xen_netfront",
    );
    case(of(0x1dd8, 1), "virtio_net parent child xen_netfront");
    // A card of several devices.
    case(of(0x177d, 0xa034), "virtio_net bgx nicvf xen_netfront");
    let disks = files(&all, (0x1af4, 0x1000), true);
    case(disks, "virtio_net ext4 jbd2 ahci ptp");
}

#[test]
fn an_unknown_card_gets_everything() {
    let all = sample(Drivers::All);
    // Aliases for a class, for all cards of a vendor, or for a device of any vendor name no card.
    for (vendor, device) in [
        (0x8087, 0x10d3),
        (0x8086, 0x9999),
        (0x1234, 0x8168),
        (0x1af4, 0x1001),
        (0x10ec, 0x8169),
    ] {
        assert_eq!(
            files(&all, (vendor, device), false),
            None,
            "{vendor:x}:{device:x}"
        );
    }
    // A driver that was not chosen drives nothing.
    let common = sample(Drivers::Common);
    assert_eq!(files(&common, (0x15b3, 0x1003), false), None);
    assert!(files(&common, (0x8086, 0x10d3), false).is_some());
}

#[test]
fn a_damaged_table_is_refused() {
    let (_, bytes) = sample(Drivers::All);
    assert_eq!(
        DividedInitramfs::read(b"\x28\xb5\x2f\xfdrest").unwrap(),
        None
    );
    assert_eq!(DividedInitramfs::read(b"").unwrap(), None);
    let (members, end) = archive::members(&bytes).unwrap();
    // Cut in the archive of the parts, it is no archive.
    for len in [1, 109, end - 600] {
        let cut = bytes.get(..len).unwrap();
        assert!(
            DividedInitramfs::read(cut).is_ok_and(|found| found.is_none()),
            "{len}"
        );
    }
    let (_, place) = members.iter().find(|(name, _)| name == PART_TABLE).unwrap();
    let mut damaged = bytes.clone();
    damaged[place.start + 20] ^= 0xff;
    assert!(DividedInitramfs::read(&damaged).is_err());
    let mut table = PartTable::default();
    table.disks = vec![3];
    table.parts = vec![1; 3];
    let with = |table: &PartTable, packed: &str| {
        let mut archive = CpioArchive::new(0);
        archive.file(PACKED, 0o644, packed);
        archive.file(
            PART_TABLE,
            0o644,
            Compression::xz(&table.to_json()).unwrap(),
        );
        DividedInitramfs::read(&archive.finish())
    };
    assert!(with(&table, "abc").is_err(), "a part that is not there");
    table.disks = vec![2];
    assert!(with(&table, "abc").unwrap().is_some());
    assert!(with(&table, "abcd").is_err(), "bytes of no part");
    table.parts = vec![u64::MAX, 4, 1];
    assert!(with(&table, "abc").is_err(), "an overflow");
}
