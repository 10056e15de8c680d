//! `bakery initrd`: an initramfs made from the system's own tree.
//!
//! | module | task |
//! |---|---|
//! | [`system_tree`], [`stack_tree`] | read the tree: a directory, or a revision of the store |
//! | [`modules`], [`modinfo`] | select kernel modules, their dependencies and firmware |
//! | [`decompress`] | decompress modules and firmware |
//! | [`compress`] | compress archives in a form that the kernel reads |
//! | [`elf`] | a minimal ELF reader |
//! | [`scripts`] | our `/init` and its library, compiled in from `initrd/` |
//! | [`archive`] | write the newc cpio archive |
//! | [`needs`] | the modules that a network card or the disks need |
//! | [`parts`], [`part_table`] | the packed drivers in parts, so that a server sends a machine only its own |
//! | [`kernel`], [`kernel_image`] | read the release of a kernel image; find it in a tree |
//! | [`external`] | modules outside the kernel package |
//! | [`content`] | contents of the archive and their paths |
//!
//! The result depends only on the tree, the two programs and the options: equal input gives
//! equal bytes.

pub(crate) mod archive;
pub(crate) mod compress;
pub(crate) mod content;
pub(crate) mod decompress;
pub(crate) mod elf;
pub(crate) mod error;
pub(crate) mod external;
pub(crate) mod kernel;
pub(crate) mod kernel_image;
pub(crate) mod modinfo;
pub(crate) mod modules;
pub(crate) mod needs;
pub(crate) mod part_table;
pub(crate) mod parts;
pub(crate) mod scripts;
pub(crate) mod stack_tree;
pub(crate) mod system_tree;

use crate::failed::Doing as _;
use std::path::PathBuf;

use archive::CpioArchive;
use compress::Compression;
pub(crate) use error::InitrdError;
use error::Result;
use modules::Chosen;
use part_table::{DividedInitramfs, MachineLengths};
use system_tree::SystemTree;

/// The archive of packed drivers and firmware: `layerfs initramfs unpack`, called by `lf_unpack`,
/// unpacks it if they are needed.
const PACKED: &str = "lib/layerfs/packed";
/// The table of the parts of [`PACKED`], for `bakery serve`.
const PART_TABLE: &str = "lib/layerfs/parts.json.xz";

/// The network drivers to include.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Drivers {
    /// virtio, e1000, e1000e, igb, r8169, tg3
    Common,
    /// Everything below `drivers/net/ethernet`, and the virtual machines' cards
    All,
    /// These modules or directories of modules
    Named(Vec<String>),
}

impl std::str::FromStr for Drivers {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "common" => Self::Common,
            "all" => Self::All,
            list => Self::Named(
                list.split(',')
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ),
        })
    }
}

/// Parameters of an initramfs.
#[derive(Debug, Clone)]
pub(crate) struct InitrdRecipe {
    /// Kernel release (`uname -r`); the tree's newest when absent.
    pub kernel: Option<String>,
    /// The network drivers to include.
    pub drivers: Drivers,
    /// Disk drivers and file systems for upper, cache and backup.
    pub storage: bool,
    /// Further modules by name.
    pub extra_modules: Vec<String>,
    /// Firmware of the chosen modules.
    pub firmware: bool,
    /// The static `layerfs`.
    pub layerfs: PathBuf,
    /// A static busybox on this host, when the tree has none.
    pub busybox: Option<PathBuf>,
    /// The keys that may sign, `/etc/layerfs/trust/root.allowed_signers` in the image.
    pub trust: Option<PathBuf>,
    /// Seconds since 1970 below which a clock is wrong; the kernel's own date when absent.
    pub built: Option<i64>,
    /// zstd level; 0 leaves the archive uncompressed. Without it: xz, if the kernel reads it.
    pub level: Option<i32>,
}

/// The contents of the initramfs, for the report.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct InitrdReport {
    /// Release of the kernel.
    pub kernel: String,
    /// Path of the kernel image in the tree.
    pub kernel_path: Option<String>,
    /// Length of the initramfs as it crosses the wire.
    pub len: u64,
    /// Length before compression, which the kernel unpacks at every boot.
    pub raw_len: u64,
    /// Length of the part that stays packed: drivers and firmware that few machines need.
    pub packed_len: u64,
    /// Lengths of the initramfs that `bakery serve` sends to one machine.
    pub for_machines: Option<MachineLengths>,
    /// Modules by name.
    pub modules: Vec<String>,
    /// Number of included firmware files.
    pub firmware: Vec<String>,
    /// Firmware that a module names and the tree does not have.
    pub firmware_missing: Vec<String>,
    /// Firmware omitted because the cards hold it in flash memory.
    pub firmware_in_flash: Vec<String>,
    /// Properties of the tree that would prevent a boot.
    pub warnings: Vec<String>,
    /// Uncompressed bytes of: the modules, the firmware, layerfs, busybox.
    pub parts: Parts,
}

impl InitrdReport {
    /// A report of these modules, to be completed.
    fn of(kernel: String, chosen: &Chosen) -> Self {
        Self {
            kernel_path: None,
            kernel,
            len: 0,
            raw_len: 0,
            packed_len: 0,
            for_machines: None,
            modules: chosen.modules.iter().map(|one| one.name.clone()).collect(),
            firmware: Vec::new(),
            firmware_missing: Vec::new(),
            firmware_in_flash: Vec::new(),
            warnings: Vec::new(),
            parts: Parts::default(),
        }
    }
}

/// Uncompressed bytes by kind.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Parts {
    /// Bytes of kernel modules.
    pub modules: u64,
    /// Bytes of firmware.
    pub firmware: u64,
    /// Bytes of the client.
    pub layerfs: u64,
    /// The shell and its tools.
    pub busybox: u64,
}

/// Builds the initramfs of `tree` and describes its contents.
///
/// # Errors
/// The tree has no kernel modules, a named module is missing, one of the programs is
/// missing or not static, or a file cannot be read.
pub(crate) fn build(
    tree: &dyn SystemTree,
    recipe: &InitrdRecipe,
) -> Result<(Vec<u8>, InitrdReport)> {
    let kernel = match &recipe.kernel {
        Some(kernel) => kernel.clone(),
        None => modules::newest_kernel(tree)?,
    };
    let known = modules::Modules::read(tree, &kernel)
        .doing(|| format!("cannot read the modules of kernel {kernel}"))?;
    let mut chosen = known.choose(tree, recipe)?;
    let compression = known.compression(recipe.level);
    if compression == Compression::None {
        let modules = chosen.modules.iter_mut();
        modules.for_each(|module| module.is_unpacked = true);
    }
    let built = match recipe.built {
        Some(built) => built,
        None => {
            let directory = known.directory();
            tree.modified(&system_tree::resolve(tree, &directory)?.unwrap_or(directory))?
        }
    };
    let mut archive = CpioArchive::new(built);
    let kernel_path = kernel_image::kernel_image(tree, &kernel)?;
    let mut report = InitrdReport::of(kernel, &chosen);
    report.kernel_path = kernel_path;
    content::base(&mut archive, built);
    // Apart, because the filter for programs makes modules longer.
    let mut programs = CpioArchive::new(built);
    content::programs(&mut programs, tree, recipe, &mut report)?;
    let mut packed = content::modules(&mut archive, &known, &chosen.modules, &mut report);
    if recipe.firmware {
        let files = content::firmware(&mut archive, tree, &chosen.modules, &mut report)?;
        packed.extend(files);
    }
    content::trust(&mut archive, recipe.trust.as_deref())?;
    let raw = [programs.finish(), archive.finish()];
    let [programs, rest] = &raw;
    report.raw_len = (programs.len() + rest.len()) as u64;
    let base = [
        compression.of_programs(programs)?,
        compression.of_data(rest)?,
    ];
    let base = base.concat();
    let bytes = if packed.is_empty() {
        base
    } else {
        let needs = needs::Needs::new(&known, &chosen);
        let (table, archive) = parts::divide(&needs, packed, (built, compression))?;
        report.packed_len = table.parts.iter().sum();
        report.raw_len += archive.len() as u64;
        [archive, base].concat()
    };
    report.len = bytes.len() as u64;
    let divided = DividedInitramfs::read(&bytes);
    let divided = divided.doing(|| "cannot read the parts that were just made".into())?;
    report.for_machines = divided.as_ref().map(DividedInitramfs::lengths);
    Ok((bytes, report))
}
