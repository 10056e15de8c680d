//! `bakery initrd`: builds the initramfs of a system.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};

use crate::cli::Globals;
use crate::initrd::system_tree::DirectoryTree;
use crate::initrd::{Drivers, Recipe, Report, build, content};
use crate::output;

/// Build the initramfs of a system from its own tree
///
/// Takes the kernel's network drivers with their firmware, a static layerfs, a static busybox
/// and our /init. See docs/BOOT.md for the kernel parameters that it understands.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Take the tree in this directory
    #[arg(long, value_name = "DIR")]
    from_dir: PathBuf,
    /// Where to write the initramfs
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Network drivers: common, all, or a list of modules and directories (drivers/net/ethernet/intel)
    #[arg(long, default_value = "all", value_name = "WHICH")]
    drivers: Drivers,
    /// Further modules, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "MODULES")]
    modules: Vec<String>,
    /// Leave out disk drivers and file systems (no upper, cache or backup on a disk)
    #[arg(long)]
    no_storage: bool,
    /// Leave out firmware
    #[arg(long)]
    no_firmware: bool,
    /// Kernel release, when the tree has several [default: the newest]
    #[arg(long, value_name = "RELEASE")]
    kernel: Option<String>,
    /// The static client [default: layerfs-static beside this program]
    #[arg(long, value_name = "FILE", env = "LAYERFS_STATIC")]
    layerfs: Option<PathBuf>,
    /// A static busybox [default: the tree's, else this host's]
    #[arg(long, value_name = "FILE")]
    busybox: Option<PathBuf>,
    /// Directory with the root of trust, for /etc/layerfs/trust
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
    /// zstd level, 0 = no compression
    #[arg(long, default_value_t = 19, value_parser = clap::value_parser!(i32).range(0..=22))]
    level: i32,
}

/// Builds it, writes it, says what is in it.
///
/// # Errors
/// The tree, a program or the output cannot be read or written, or lacks what is needed.
pub fn run(args: Args, globals: &Globals) -> Result<ExitCode> {
    let layerfs = args.layerfs.or_else(content::find_layerfs).ok_or_else(|| {
        anyhow!("no static layerfs beside this program: `make static` builds it, --layerfs FILE names it")
    })?;
    let recipe = Recipe {
        kernel: args.kernel,
        drivers: args.drivers,
        storage: !args.no_storage,
        extra_modules: args.modules,
        firmware: !args.no_firmware,
        layerfs,
        busybox: args.busybox,
        trust: args.trust,
        built: None,
        level: args.level,
    };
    let tree = DirectoryTree::open(&args.from_dir)?;
    let (bytes, report) = build(&tree, &recipe)?;
    std::fs::write(&args.output, &bytes)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    output::emit(globals, &report, |out| describe(out, &args.output, &report))?;
    Ok(ExitCode::SUCCESS)
}

fn describe(
    out: &mut dyn std::io::Write,
    path: &std::path::Path,
    report: &Report,
) -> std::io::Result<()> {
    let Report { kernel, parts, .. } = report;
    writeln!(
        out,
        "{}: {} ({} unpacked) for kernel {kernel}",
        path.display(),
        output::length(report.len),
        output::length(report.raw_len)
    )?;
    writeln!(
        out,
        "  {} modules {}, {} firmware files {}, layerfs {}, busybox {}",
        report.modules.len(),
        output::length(parts.modules),
        report.firmware.len(),
        output::length(parts.firmware),
        output::length(parts.layerfs),
        output::length(parts.busybox)
    )?;
    if !report.firmware_missing.is_empty() {
        writeln!(
            out,
            "  {} firmware files that these modules may ask for are not in the tree (--json lists them)",
            report.firmware_missing.len()
        )?;
    }
    Ok(())
}
