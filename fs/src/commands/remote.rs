//! A server's system as a stack; `layerfs trace` and `layerfs push-trace`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use wire::trace::BootTrace;

use crate::control::Question;
use crate::fuse::session::ReadAhead;
use crate::limits::{ANSWER_LEN_MAX, ANSWER_PARTS_MAX};
use crate::mount_table;
use crate::options::MountOptions;
use crate::root::open;
use crate::root::options::RemoteOptions;
use crate::stack::Stack;
use crate::trace::TraceRecorder;

/// During a boot the kernel reads single pages: the trace is then exact, and so is the boot pack.
const READ_AHEAD_BOOT_KIB: u32 = 4;
/// Once the boot pack is in the page cache, few pages are new to the trace, and files such as the
/// journal would otherwise be read page by page.
const READ_AHEAD_WARM_KIB: u32 = 32;

/// Arguments of `layerfs mount` for a server's system; each is also a mount option without the dashes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "A system on a server")]
pub struct RemoteArgs {
    /// Another server with the same store, used when the first fails
    #[arg(long, value_name = "URL")]
    pub mirror: Vec<String>,
    /// The trusted keys (allowed_signers)
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Cache fetched chunks in this directory
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Maximum size of the disk cache (default 4G)
    #[arg(long, value_name = "SIZE", requires = "cache")]
    pub cache_size: Option<String>,
    /// Store the whole system in this directory, and start from it when no server answers
    #[arg(long, value_name = "DIR")]
    pub backup: Option<PathBuf>,
    /// Let reads fail after this time without a server (default: they wait)
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Data to fetch before it is read: auto, all, pack or none
    #[arg(long, value_name = "POLICY")]
    pub prefetch: Option<String>,
    /// Limit prefetching to this many bytes per second
    #[arg(long, value_name = "SIZE")]
    pub prefetch_rate: Option<String>,
}

impl RemoteArgs {
    /// The arguments as mount options.
    pub fn options(&self) -> Vec<(String, String)> {
        let path = |path: &PathBuf| path.display().to_string();
        let mut options: Vec<(String, String)> = self
            .mirror
            .iter()
            .map(|url| (String::from("mirror"), url.clone()))
            .collect();
        let single = [
            ("keys", self.keys.as_ref().map(path)),
            ("cache", self.cache.as_ref().map(path)),
            ("cache-size", self.cache_size.clone()),
            ("backup", self.backup.as_ref().map(path)),
            ("timeout", self.timeout.map(|seconds| seconds.to_string())),
            ("prefetch", self.prefetch.clone()),
            ("prefetch-rate", self.prefetch_rate.clone()),
        ];
        let given = single
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        options.extend(given);
        options
    }
}

/// Opens the system at `url` with `options`.
///
/// # Errors
/// The system is unavailable.
pub(crate) fn stack(url: &str, options: &MountOptions) -> anyhow::Result<Stack> {
    let mut wanted = RemoteOptions::new(url)?;
    for (name, value) in &options.remote {
        wanted.set(name, value)?;
    }
    wanted.console = options.root_duty;
    let root = open::open(&wanted)?;
    let layers = root.manifest.layers.iter();
    Ok(Stack {
        index: root.index,
        layers: layers
            .map(|layer| layerfmt::LayerRef {
                digest: layer.digest,
                file_len: layer.len,
            })
            .collect(),
        source: root.source,
        control: root.control,
        trace: root.trace,
        revisions: (!options.overlay_lower).then_some(root.revisions),
        values: root.values.map(|layer| (layer, wanted.values_dir)),
        name: wanted.address.to_string(),
    })
}

/// Disables the kernel's read-ahead until the boot is over.
pub(crate) fn watch_boot(read_ahead: ReadAhead, trace: Arc<TraceRecorder>) {
    read_ahead.set(READ_AHEAD_BOOT_KIB);
    let started = std::thread::Builder::new()
        .name("boot".into())
        .spawn(move || {
            while trace.is_booting() {
                std::thread::sleep(Duration::from_secs(1));
            }
            read_ahead.set_usual();
        });
    if let Err(error) = started {
        tracing::warn!(%error, "read-ahead stays small");
    }
}

/// Called when the pages of the boot pack are in the page cache: during the boot the kernel then
/// uses a small read-ahead.
pub(super) fn is_warm(read_ahead: &ReadAhead) {
    if read_ahead.get() == Some(READ_AHEAD_BOOT_KIB) {
        read_ahead.set(READ_AHEAD_WARM_KIB);
    }
}

/// Arguments of `layerfs trace`.
#[derive(Debug, Clone, clap::Args)]
pub struct TraceArgs {
    /// The mount point
    pub mountpoint: PathBuf,
    /// Write the trace itself to this file, for `bakery pack --trace`
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `layerfs push-trace`.
#[derive(Debug, Clone, clap::Args)]
pub struct PushTraceArgs {
    /// The mount point
    #[arg(default_value = "/")]
    pub mountpoint: PathBuf,
}

/// Prints the trace, or writes it to a file.
///
/// # Errors
/// No system of a server is mounted there.
pub(crate) fn trace(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let at = || args.mountpoint.display().to_string();
    let root = open_root(&args.mountpoint)?;
    let bytes = ask_parts(&root, Question::Trace).with_context(at)?;
    if bytes.is_empty() {
        super::status::require_mount(&root, &args.mountpoint)?;
        bail!("{}: this mount records no trace", args.mountpoint.display());
    }
    let trace = BootTrace::decode(&bytes)?;
    if let Some(path) = &args.output {
        std::fs::write(path, &bytes).with_context(|| path.display().to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    for touch in &trace.touches {
        println!("{}\t{}\t{}", touch.ino, touch.page, touch.count);
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the mount send its trace to its server, which ends the recording.
///
/// # Errors
/// It records none, or no server accepts it.
pub(crate) fn push_trace(args: &PushTraceArgs) -> anyhow::Result<ExitCode> {
    let at = || args.mountpoint.display().to_string();
    let root = open_root(&args.mountpoint)?;
    if let Some(answer) = ask(&root, Question::SendTrace).with_context(at)? {
        println!("{}", String::from_utf8_lossy(&answer));
        return Ok(ExitCode::SUCCESS);
    }
    super::status::require_mount(&root, &args.mountpoint)?;
    bail!(
        "{}: no server took the trace: see its log",
        args.mountpoint.display()
    )
}

/// An answer of several parts; empty if there is none.
pub(super) fn ask_parts(
    root: &OwnedFd,
    question: fn(usize) -> Question,
) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in 0..ANSWER_PARTS_MAX {
        match ask(root, question(part))? {
            Some(more) => bytes.extend_from_slice(&more),
            None => break,
        }
    }
    Ok(bytes)
}

/// The open root directory of a mount, for requests: its path may change meanwhile.
pub(super) fn open_root(mountpoint: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(mount_table::served(mountpoint), flags, Mode::empty())
        .with_context(|| mountpoint.display().to_string())
}

pub(super) fn ask(root: &OwnedFd, question: Question) -> anyhow::Result<Option<Vec<u8>>> {
    let name = question.attribute();
    let mut value = vec![0; ANSWER_LEN_MAX];
    match rustix::fs::fgetxattr(root, &name, &mut value[..]) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno).context("the mount does not answer"),
    }
}
