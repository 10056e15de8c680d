//! The command `layerfs mount`.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::chunks::Pending;
use crate::filesystem::{LayerFs, Settings};
use crate::fuse::Adapter;
use crate::fuse::limit;
use crate::fuse::session::{self, MountPlace};
use crate::lower::{Lower, surplus};
use crate::mount_table;
use crate::net::address::Address;
use crate::options::{CACHE_LEN_DEFAULT, MountOptions};
use crate::stack::Stack;
use crate::status::Fixed;
use crate::sys;
use crate::upper::Upper;

/// Arguments of `layerfs mount`.
#[derive(Debug, Clone, clap::Args)]
pub struct MountArgs {
    /// Source of the mount (top.layer:…:base.layer, a server's URL, or none with -o lowerdir=),
    /// then the mount point
    #[arg(value_name = "[SOURCE] MOUNTPOINT", required = true, num_args = 1..=2)]
    pub places: Vec<String>,
    /// Mount options, separated by commas: lowerdir=, upperdir=, workdir=, fsname=, ro,
    /// passthrough, volatile, chunk-cache=SIZE (default: 64M, and more while memory is free),
    /// threads=N (default: one per processor, 2 to 16), wait=10, log=FILE, nosuid, nodev, …
    #[arg(short = 'o', long = "options", value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// The network side.
    #[command(flatten)]
    pub remote: super::remote::RemoteArgs,
    /// Stay in the foreground
    #[arg(short, long)]
    pub foreground: bool,
    /// Behave as the daemon of the root file system: locked in memory, never killed for memory
    #[arg(long)]
    pub root_duty: bool,
    /// Mount in this mount namespace (a file of /proc/PID/ns): mount -N
    #[arg(long, hide = true)]
    pub namespace: Option<PathBuf>,
    /// Started by another layerfs that waits for a message on standard output
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// Open descriptors we would like to be allowed.
const DESCRIPTORS_WANTED: u64 = 1 << 16;
/// Number of descriptors that a writable mount uses under many changes, except for thousands of
/// directories; costs 32 KiB of kernel memory.
const DESCRIPTORS_USUAL: u64 = 1 << 12;
/// Output of the background process when the mount is ready, and of `layerfs initramfs warm` when the mount
/// may be used.
pub(super) const READY: &[u8] = b"ready\n";

/// A complete mount request.
#[derive(Debug, Clone)]
pub(crate) struct MountRequest {
    /// Source of the mount, unless `lowerdir=` names it.
    pub source: Option<String>,
    /// The mount point.
    pub mountpoint: PathBuf,
    /// The mount options.
    pub options: MountOptions,
    /// The mount namespace to use, if not our own.
    pub namespace: Option<PathBuf>,
}

impl MountRequest {
    fn from_args(args: &MountArgs) -> anyhow::Result<MountRequest> {
        let mut options = MountOptions {
            root_duty: args.root_duty,
            ..MountOptions::default()
        };
        for text in &args.options {
            options.parse(text)?;
        }
        let (source, mountpoint) = match &args.places[..] {
            [mountpoint] => (None, mountpoint),
            [source, mountpoint] => (Some(source.clone()), mountpoint),
            _ => bail!("give [SOURCE] MOUNTPOINT"),
        };
        let source = source.filter(|source| !matches!(source.as_str(), "none" | "layerfs"));
        options.remote.extend(args.remote.options());
        Ok(MountRequest {
            source,
            mountpoint: PathBuf::from(mountpoint),
            options,
            namespace: args.namespace.clone(),
        })
    }

    fn is_url(&self) -> bool {
        self.source
            .as_deref()
            .is_some_and(|source| source.contains("://"))
    }
}

/// Mounts; in the background by default.
///
/// # Errors
/// The mount is impossible.
pub(crate) fn run(args: &MountArgs, verbose: u8) -> anyhow::Result<ExitCode> {
    let request = MountRequest::from_args(args)?;
    if args.foreground || args.supervised {
        if args.supervised {
            let _ = rustix::process::setsid();
            sys::process::end_with_parent(true);
        }
        log_to_stderr(verbose);
        if args.supervised && !is_heard() {
            bail!("the caller of the mount has ended");
        }
        serve(&request, args.supervised)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut given: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if let Some(verb) = given.iter().position(|argument| argument == "mount") {
        given.insert(verb + 1, "--supervised".into());
    }
    let arguments = given;
    start_in_background(arguments, request.options.root_duty)
}

/// Start this program again with `arguments` and return when the mount is up.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn start_in_background(
    arguments: Vec<std::ffi::OsString>,
    root_duty: bool,
) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("cannot find the layerfs program itself")?;
    let mut command = Command::new(program);
    // A name that begins with @ tells systemd not to kill the daemon of a root file system.
    command.arg0(if root_duty { "@layerfs" } else { "layerfs" });
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start the daemon")?;
    let mut word = [0; READY.len()];
    let received = child
        .stdout
        .take()
        .map(|mut pipe| pipe.read_exact(&mut word));
    if matches!(received, Some(Ok(()))) && word == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().context("cannot wait for the daemon")?;
    // The daemon has printed the reason on standard error.
    Ok(ExitCode::from(
        u8::try_from(status.code().unwrap_or(2)).unwrap_or(2),
    ))
}

/// True if a process still waits for the message that the mount is ready.
fn is_heard() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec};
    let out = std::io::stdout();
    let mut ends = [PollFd::new(&out, PollFlags::empty())];
    let at_once = Timespec::default();
    let polled = rustix::event::poll(&mut ends, Some(&at_once));
    let [end] = &ends;
    polled.is_err() || !end.revents().contains(PollFlags::ERR)
}

/// `LAYERFS_LOG` (a level, or TARGET=LEVEL,…) wins over `-v`.
fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let asked = std::env::var("LAYERFS_LOG").ok();
    let filter = asked.and_then(|asked| asked.parse::<Targets>().ok());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(std::io::stderr);
    let _ = tracing_subscriber::registry()
        .with(filter.unwrap_or_else(|| Targets::new().with_default(level)))
        .with(lines)
        .try_init();
}

fn stack_for(request: &mut MountRequest) -> anyhow::Result<Stack> {
    if let Some(url) = request.source.as_ref().filter(|_| request.is_url()) {
        return super::remote::stack(url, &request.options);
    }
    if let Some(source) = &request.source {
        request.options.set_source(source);
    }
    Stack::open(&request.options.layers).map_err(|error| {
        let source = request.source.as_deref().unwrap_or_default();
        match Address::with_scheme(source) {
            Some(url) if !request.options.layers.iter().any(|path| path.exists()) => {
                anyhow::anyhow!("{error}; for a system on a server, write {url}")
            }
            _ => error.into(),
        }
    })
}

/// Prepares the process while it has one thread; returns the number of descriptors that may be
/// open.
fn settle_in(request: &MountRequest) -> anyhow::Result<u64> {
    if request.options.root_duty {
        sys::process::keep_heap_small();
    } else {
        sys::process::keep_one_heap();
    }
    if let Some(namespace) = &request.namespace {
        sys::process::enter_mount_namespace(namespace)
            .with_context(|| format!("mount namespace {}", namespace.display()))?;
    }
    let descriptors_max = sys::process::raise_descriptor_limit(DESCRIPTORS_WANTED);
    if request.options.upper()?.is_some() {
        sys::process::reserve_descriptors(DESCRIPTORS_USUAL.min(descriptors_max));
    }
    Ok(descriptors_max)
}

fn serve(request: &MountRequest, supervised: bool) -> anyhow::Result<()> {
    let descriptors_max = settle_in(request)?;
    let mut request = request.clone();
    session::remove_dead_mount(&request.mountpoint);
    let mountpoint = std::fs::canonicalize(&request.mountpoint)
        .with_context(|| format!("mount point {}", request.mountpoint.display()))?;
    let stack = stack_for(&mut request)?;
    let options = &request.options;
    let upper = match options.upper()? {
        Some((upper, work)) => Some(Upper::open(upper, work, options.wait)?),
        None => None,
    };
    if let Some(upper) = &upper {
        upper.keep_access_times(options.flags);
    }
    rustix::process::umask(rustix::fs::Mode::empty());
    let is_writable = upper.is_some();
    let lower = lower_of(&stack, options);
    let settings = Settings {
        volatile: options.volatile,
        descriptors_max,
    };
    let fs = LayerFs::new(lower, upper, settings).context("cannot read the upper")?;
    let fs = Arc::new(fs);
    let threads = options.threads.unwrap_or_else(default_threads);
    let fixed = Fixed {
        mode: mode_of(options),
        threads,
        began: std::time::Instant::now(),
        mounted_ms: sys::process::since_start_ms(),
        request_timeout: limit::request_timeout(),
    };
    say_request_timeout(fixed.request_timeout.filter(|_| request.is_url()));
    // The kernel passes no report to the daemon of a read-only mount.
    let read_only = match is_writable || options.overlay_lower {
        true => rustix::mount::MountFlags::empty(),
        false => rustix::mount::MountFlags::RDONLY,
    };
    let name = options.name.clone().unwrap_or_else(|| stack.name.clone());
    let place = MountPlace {
        mountpoint,
        name,
        flags: options.flags | read_only,
        threads,
    };
    sys::signals::hold();
    // Threads inherit it; an ordinary user cannot set it.
    let _ = sys::process::answer_first();
    let adapter = Adapter::new(Arc::clone(&fs), fixed)
        .with_passthrough(options.passthrough)
        .with_revisions(stack.revisions.clone())
        .with_root_duty(options.root_duty);
    super::rest::begin(&fs, adapter.buffers(), adapter.requests());
    let attached = session::attach(adapter, &place)?;
    let _telling = look_after(&stack, &place, attached.device.clone(), options.root_duty);
    drop(fs);
    settle(options, supervised, placing(&stack, &place, is_writable)).inspect_err(|_| {
        let _ = super::umount::detach(&place.mountpoint, true);
    })?;
    attached
        .serve()
        .inspect_err(|error| tracing::error!(%error, "the mount has ended"))
        .context("the connection to the kernel broke")
}

/// The stack, with the memory for decoded chunks that `options` name.
fn lower_of(stack: &Stack, options: &MountOptions) -> Lower {
    let index = Arc::clone(&stack.index);
    let source = Arc::clone(&stack.source);
    let (cache_len, surplus_len) = match options.cache_len {
        Some(len) => (len, 0),
        None => (CACHE_LEN_DEFAULT, surplus::affordable_len()),
    };
    Lower::new(index, source, &stack.digest().0, cache_len)
        .with_surplus(surplus_len)
        .with_layers(names_of(stack))
        .with_trace(stack.trace.clone())
        .with_control(Arc::clone(&stack.control))
}

/// The work that places the values of this machine in the mounted tree.
fn placing(
    stack: &Stack,
    place: &MountPlace,
    is_writable: bool,
) -> Option<impl FnOnce() + Send + 'static> {
    let (layer, running) = stack.values.clone()?;
    let root = place.mountpoint.clone();
    Some(move || super::values::place(&root, is_writable, &layer, &running))
}

fn say_request_timeout(timeout: Option<std::time::Duration>) {
    if let Some(timeout) = timeout {
        tracing::warn!(
            seconds = timeout.as_secs(),
            "fs.fuse.default_request_timeout or max_request_timeout is set: the kernel aborts a mount that does not answer a request within this time, so a request that waits for a server gets EIO after three quarters of it"
        );
    }
}

fn mode_of(options: &MountOptions) -> &'static str {
    match options.passthrough {
        true => "passthrough",
        false => "default",
    }
}

fn names_of(stack: &Stack) -> Vec<(String, u64)> {
    let layers = stack.layers.iter();
    layers.map(|l| (l.digest.to_string(), l.file_len)).collect()
}

fn default_threads() -> usize {
    std::thread::available_parallelism()
        .map_or(2, std::num::NonZero::get)
        .clamp(2, 16)
}

/// The threads that a mount needs besides those that answer.
fn look_after(
    stack: &Stack,
    place: &MountPlace,
    device: Option<String>,
    root_duty: bool,
) -> Box<dyn Pending> {
    let read_ahead = device.as_deref().and_then(session::ReadAhead::of);
    if let Some((trace, read_ahead)) = stack.trace.clone().zip(read_ahead) {
        super::remote::watch_boot(read_ahead, trace);
    }
    unmount_on_signal(place, device, root_duty);
    // The fleet is notified.
    stack
        .control
        .command(crate::control::Command::Mounted, Box::new(|_| {}))
}

/// A signal unmounts, and the daemon ends when nothing uses the mount. If its mount is in no table
/// any more (it was detached together with the mount below it), it ends at the signal; a root's
/// daemon never does.
fn unmount_on_signal(place: &MountPlace, device: Option<String>, root_duty: bool) {
    let mountpoint = place.mountpoint.clone();
    let started = std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            loop {
                let signal = sys::signals::wait();
                tracing::info!(signal, "unmounting");
                let table = mount_table::read().unwrap_or_default();
                let there = mount_table::device_of(&table, &mountpoint);
                // Something else may be mounted there by now.
                let unmounted = if device.as_deref().is_some_and(|ours| there != Some(ours)) {
                    Err(anyhow::anyhow!("it is not mounted there any more"))
                } else {
                    super::umount::detach(&mountpoint, true)
                };
                let Err(error) = unmounted else { continue };
                let listed = |device| mount_table::lists(&table, device);
                let gone = !table.is_empty() && device.as_deref().is_some_and(|ours| !listed(ours));
                if gone && !root_duty {
                    tracing::info!("the mount was detached before: ending");
                    std::process::exit(0);
                }
                tracing::warn!(error = format!("{error:#}"), "cannot unmount");
            }
        });
    if let Err(error) = started {
        tracing::warn!(%error, "signals will not unmount");
    }
}

/// The mount is ready: detaches from the terminal and notifies the parent. `before_use` runs first,
/// in a thread of its own, because it uses the mount.
fn settle(
    options: &MountOptions,
    supervised: bool,
    before_use: Option<impl FnOnce() + Send + 'static>,
) -> anyhow::Result<()> {
    if sys::object::enter_descriptor_directory().is_err() {
        tracing::warn!("no /proc: attributes of links and devices cannot be changed");
    }
    if options.root_duty {
        take_root_duty();
    }
    if supervised {
        sys::process::end_with_parent(false);
    }
    let Some(before_use) = before_use else {
        say_ready(supervised.then(std::io::stdout))?;
        return if supervised {
            leave_terminal(options)
        } else {
            Ok(())
        };
    };
    // The standard output is another file after leave_terminal.
    let out = supervised.then(|| rustix::io::dup(std::io::stdout()));
    let out = out
        .transpose()
        .context("standard output")?
        .map(std::fs::File::from);
    if supervised {
        leave_terminal(options)?;
    }
    let started = std::thread::Builder::new()
        .name("values".into())
        .spawn(move || {
            before_use();
            if let Err(error) = say_ready(out) {
                tracing::warn!("{error:#}");
            }
        });
    started.map(drop).context("cannot start a thread")
}

/// Tells the parent, and systemd, that the mount may be used.
fn say_ready(parent: Option<impl std::io::Write>) -> anyhow::Result<()> {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let Some(mut out) = parent else {
        return Ok(());
    };
    out.write_all(READY)
        .and_then(|()| out.flush())
        .context("the process that started the mount has ended")
}

fn take_root_duty() {
    let duties: [(&str, fn() -> Result<(), sys::Errno>); 3] = [
        ("lock memory", sys::process::lock_memory),
        (
            "be spared by the out-of-memory killer",
            sys::process::spare_from_oom,
        ),
        ("be an IO flusher", sys::process::set_io_flusher),
    ];
    for (what, take) in duties {
        if let Err(errno) = take() {
            tracing::warn!(%errno, "root duty: cannot {what}");
        }
    }
}

/// Standard output and errors no longer belong to the starting process.
fn leave_terminal(options: &MountOptions) -> anyhow::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let quiet = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("/dev/null")?;
    let to = match &options.log {
        Some(path) => Some(
            rustix::fs::open(
                path,
                OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o644),
            )
            .with_context(|| format!("log {}", path.display()))?,
        ),
        None => rustix::fs::open(
            c"/dev/kmsg",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok(),
    };
    sys::process::replace_standard(&quiet, to.as_ref().unwrap_or(&quiet))?;
    Ok(())
}
