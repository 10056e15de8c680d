//! `bakery initrd`: builds the initramfs of a system, and publishes it with the kernel.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use layerfmt::Digest;
use wire::manifest::{Action, ObjectRef, RevisionName};

use crate::globals::Globals;
use crate::human;
use crate::initrd::kernel_image::kernel_image;
use crate::initrd::stack_tree::StackTree;
use crate::initrd::system_tree::{DirectoryTree, SystemTree, read};
use crate::initrd::{Drivers, InitrdRecipe, InitrdReport, build, content, kernel, modules};
use crate::limits::SYSTEM_FILE_LEN_MAX;
use crate::machine::checks;
use crate::output;
use crate::publish::{Draft, Publisher, Uploads};
use crate::store::{Key, Store};

/// Build the initramfs of a system from its own tree
///
/// Contains the kernel's network drivers with their firmware, a static layerfs, a static busybox and
/// the /init of layerfs; see docs/BOOT.md for the kernel parameters. A system of the store gets a new
/// revision with the kernel and this initramfs; with --output they are only written to files.
#[derive(Debug, clap::Args)]
pub struct InitrdArgs {
    /// The system (its newest revision), or one revision
    #[arg(
        value_name = "SYSTEM[/PROFILE][@REV]",
        required_unless_present = "from_dir"
    )]
    system: Option<RevisionName>,
    /// Use the tree in this directory instead; needs --output
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "system",
        requires = "output"
    )]
    from_dir: Option<PathBuf>,
    /// Write the initramfs here and publish nothing
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The contents of the initramfs.
    #[command(flatten)]
    choice: InitrdChoice,
}

/// The contents of an initramfs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InitrdChoice {
    /// Network drivers: common, all, or a list of modules and directories (drivers/net/ethernet/intel)
    #[arg(long, default_value = "all", value_name = "WHICH")]
    drivers: Drivers,
    /// Further kernel modules, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "MODULES")]
    modules: Vec<String>,
    /// Omit disk drivers and file systems (no upper, cache or backup on a disk)
    #[arg(long)]
    no_storage: bool,
    /// Omit firmware
    #[arg(long)]
    no_firmware: bool,
    /// Kernel release, if the tree has several [default: the newest]
    #[arg(long, value_name = "RELEASE")]
    kernel: Option<String>,
    /// The kernel image [default: the tree's, else the imported one]
    #[arg(long, value_name = "FILE")]
    kernel_image: Option<PathBuf>,
    /// The static client [default: layerfs-static beside this program]
    #[arg(long, value_name = "FILE", env = "LAYERFS_STATIC")]
    layerfs: Option<PathBuf>,
    /// A static busybox [default: the tree's, else this host's]
    #[arg(long, value_name = "FILE")]
    busybox: Option<PathBuf>,
    /// The keys that clients trust [default: the store's]
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Compress with zstd and this level, 0 = no compression [default: xz if the kernel reads it, else 19]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(0..=22))]
    initrd_level: Option<i32>,
}

/// The initramfs and the kernel that belongs to it.
#[derive(Debug)]
pub(crate) struct BootImages {
    /// The archive of the initramfs.
    pub initrd: Vec<u8>,
    /// The kernel image.
    pub kernel: Option<Vec<u8>>,
    /// The report of the contents.
    pub report: InitrdReport,
}

impl InitrdChoice {
    /// Builds the initramfs of `tree`; `anchors` are the store's keys, `beside` is the imported
    /// kernel image of a tree without one, as from a live ISO.
    ///
    /// # Errors
    /// The errors of [`build`], or there is no static client, or the kernel image is of another
    /// release
    /// than the modules.
    pub(crate) fn build(
        &self,
        tree: &dyn SystemTree,
        anchors: Option<PathBuf>,
        beside: impl FnOnce() -> Result<Option<Vec<u8>>>,
    ) -> Result<BootImages> {
        let layerfs = self.layerfs.clone().or_else(content::find_layerfs).ok_or_else(|| {
            anyhow!("no static layerfs beside this program: `make static` builds it, --layerfs FILE names it")
        })?;
        let image = self.image(tree, beside)?;
        let image_release = image.as_deref().and_then(kernel::release);
        let recipe = InitrdRecipe {
            kernel: self.kernel.clone().or_else(|| image_release.clone()),
            drivers: self.drivers.clone(),
            storage: !self.no_storage,
            extra_modules: self.modules.clone(),
            firmware: !self.no_firmware,
            layerfs,
            busybox: self.busybox.clone(),
            trust: self.trust.clone().or(anchors),
            built: None,
            level: self.initrd_level,
        };
        let (initrd, mut report) = build(tree, &recipe)?;
        report.warnings.extend(checks::waiting_mounts(tree)?);
        if let Some(release) = image_release.filter(|release| *release != report.kernel) {
            bail!(
                "the kernel image is of release {release}, the modules are of {}",
                report.kernel
            );
        }
        Ok(BootImages {
            initrd,
            kernel: image,
            report,
        })
    }

    /// The kernel to boot: the given one, else the tree's own, else the imported one.
    fn image(
        &self,
        tree: &dyn SystemTree,
        beside: impl FnOnce() -> Result<Option<Vec<u8>>>,
    ) -> Result<Option<Vec<u8>>> {
        if let Some(file) = &self.kernel_image {
            let bytes =
                std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            return Ok(Some(bytes));
        }
        let release = match &self.kernel {
            Some(release) => release.clone(),
            None => modules::newest_kernel(tree)?,
        };
        match kernel_image(tree, &release)? {
            Some(path) => Ok(read(tree, &path)?),
            None => beside(),
        }
    }
}

/// Builds the initramfs, publishes or writes it, and prints its contents.
///
/// # Errors
/// The tree, a program or the store cannot be read or written, or is incomplete.
pub(crate) fn run(args: InitrdArgs, globals: &Globals) -> Result<ExitCode> {
    let Some(system) = args.system else {
        let directory = args
            .from_dir
            .ok_or_else(|| anyhow!("name a system, or a directory with --from-dir"))?;
        let tree = DirectoryTree::open(&directory)?;
        let boot = args.choice.build(&tree, None, || Ok(None))?;
        return write(&boot, args.output.as_deref(), globals);
    };
    match work(&system, &args.choice, args.output.as_deref(), globals)? {
        (Some(published), report) => {
            output::note(globals, &format!("published {published}"));
            output::emit(globals, &report, |out| {
                describe(out, Path::new("initramfs"), &report)
            })?;
        }
        (None, report) => {
            let output = args.output.as_deref().unwrap_or(Path::new("initramfs"));
            output::emit(globals, &report, |out| describe(out, output, &report))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the initramfs of a system of the store and publishes it with the kernel, for another
/// program. `args` are those of the command.
///
/// # Errors
/// The tree, a program or the store cannot be read or written, or is incomplete.
pub fn publish_initramfs(args: InitrdArgs, globals: &Globals) -> Result<RevisionName> {
    let system = args.system.context("name a system")?;
    let (published, _) = work(&system, &args.choice, None, globals)?;
    published.context("nothing was published")
}

/// Builds the initramfs; publishes it, unless it is written to `output`.
fn work(
    system: &RevisionName,
    choice: &InitrdChoice,
    output: Option<&Path>,
    globals: &Globals,
) -> Result<(Option<RevisionName>, InitrdReport)> {
    let keys = globals.keys()?;
    let anchors = keys.directory().join("allowed_signers");
    let publisher = Publisher::open(Store::open(globals.store()?)?, &keys)?;
    let history = publisher.history();
    let revision = history.revision(system)?;
    let merged = history.merged(&revision.manifest)?;
    let layers = history.layers(&revision.manifest)?;
    let tree = StackTree::new(merged.index, Box::new(layers));
    // A live ISO stores its kernel beside the tree: import added it to the revision.
    let beside = || {
        let Some(kernel) = &revision.manifest.kernel else {
            return Ok(None);
        };
        let bytes = publisher
            .store()
            .require(&Key::boot(&kernel.digest), SYSTEM_FILE_LEN_MAX)?;
        if Digest::of(&bytes) != kernel.digest {
            bail!("the kernel of {system} in the store is damaged: see `bakery verify`");
        }
        Ok(Some(bytes.to_vec()))
    };
    let boot = choice.build(&tree, Some(anchors), beside)?;
    if let Some(output) = output {
        write_file(&boot, output)?;
        return Ok((None, boot.report));
    }
    let kernel = boot.kernel.as_deref().ok_or_else(|| {
        anyhow!(
            "the tree of {system} has no kernel image in /boot, and none was imported with it: name one with --kernel-image FILE"
        )
    })?;
    let staging = publisher.store().staging()?;
    let mut uploads = Uploads::default();
    let kernel = object(kernel, &staging.path().join("kernel"), &mut uploads)?;
    let initrd = object(&boot.initrd, &staging.path().join("initrd"), &mut uploads)?;
    let message = message(&boot.report);
    let name = revision.manifest.name();
    let published = publisher.publish(&name, uploads, |head, _| {
        let manifest = head.map_or(&revision.manifest, |head| &head.manifest);
        Ok(Draft {
            kernel: Some(kernel),
            initrd: Some(initrd),
            ..Draft::like(manifest, Action::Boot, "bakery initrd", &message)
        })
    })?;
    Ok((Some(published.name()), boot.report))
}

/// The message of the revision: `log` and `show` print it.
fn message(report: &InitrdReport) -> String {
    let len = human::length(report.len);
    let mut text = format!("kernel {} and its initramfs, {len}", report.kernel);
    if let Some(lengths) = &report.for_machines {
        text.push_str(&format!("\n\nFor one machine: {lengths}."));
    }
    text
}

/// One boot file for the store.
fn object(bytes: &[u8], file: &Path, uploads: &mut Uploads<'_>) -> Result<ObjectRef> {
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    let digest = Digest::of(bytes);
    uploads.add(Key::boot(&digest), file);
    Ok(ObjectRef {
        digest,
        len: bytes.len() as u64,
    })
}

fn write(boot: &BootImages, output: Option<&Path>, globals: &Globals) -> Result<ExitCode> {
    let Some(output) = output else {
        bail!("name the file to write with --output");
    };
    write_file(boot, output)?;
    output::emit(globals, &boot.report, |out| {
        describe(out, output, &boot.report)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn write_file(boot: &BootImages, output: &Path) -> Result<()> {
    std::fs::write(output, &boot.initrd)
        .with_context(|| format!("cannot write {}", output.display()))
}

fn describe(
    out: &mut dyn std::io::Write,
    path: &Path,
    report: &InitrdReport,
) -> std::io::Result<()> {
    let InitrdReport { kernel, parts, .. } = report;
    writeln!(
        out,
        "{}: {} ({} unpacked) for kernel {kernel}",
        path.display(),
        human::length(report.len),
        human::length(report.raw_len)
    )?;
    writeln!(
        out,
        "  {} modules {}, {} firmware files {}, layerfs {}, busybox {}",
        report.modules.len(),
        human::length(parts.modules),
        report.firmware.len(),
        human::length(parts.firmware),
        human::length(parts.layerfs),
        human::length(parts.busybox)
    )?;
    if let Some(lengths) = &report.for_machines {
        writeln!(out, "  for one machine: {lengths}")?;
    }
    for warning in &report.warnings {
        writeln!(out, "  warning: {warning}")?;
    }
    if !report.firmware_missing.is_empty() {
        writeln!(
            out,
            "  {} firmware files that these modules may ask for are not in the tree (--json lists them)",
            report.firmware_missing.len()
        )?;
    }
    if !report.firmware_in_flash.is_empty() {
        writeln!(
            out,
            "  omitted, because the cards have it in their own flash memory: {}",
            report.firmware_in_flash.join(", ")
        )?;
    }
    Ok(())
}
