//! Boots a revision in a virtual machine of this server and takes the trace of its boot, before any
//! client boots it.
//!
//! The machine has no disk, and its network leads to one address only: the store, served by this
//! process for this purpose. It gets the kernel and the initramfs of the revision, as a client
//! does, and a second archive after the initramfs whose script ([`archive`]) waits for the end of
//! the boot and sends the trace. So the system needs no client of its own.

mod archive;
mod console;
mod machine;
mod pipe;
mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use wire::manifest::{Manifest, RevisionName};

use crate::failed::{Doing as _, Failed};
use crate::history::{History, HistoryError};
use crate::netboot::initramfs::has_client;
use crate::netboot::{Menu, MenuChoice};
use crate::serve::ServeError;
use crate::store::{Key, StoreError};
use crate::traces;
use crate::work_directory::WorkDirectory;

pub(crate) use machine::Acceleration;
pub(crate) use pipe::connect;

use console::Console;
use machine::VirtualMachine;
use server::PrivateServer;

/// Interval of the looks at the machine and the spool.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Bounds of a rehearsal, and its programs.
#[derive(Debug, Clone)]
pub(crate) struct RehearseOptions {
    /// The store, by its place.
    pub store: String,
    /// Longest time of the boot.
    pub timeout: Duration,
    /// Memory of the machine, MiB.
    pub memory: u32,
    /// The emulator; the one of this processor by default.
    pub qemu: Option<PathBuf>,
    /// False: emulate the processor even if it can be used directly.
    pub kvm: bool,
}

/// The trace of a rehearsed boot.
#[derive(Debug)]
pub(crate) struct RehearsedBoot {
    /// The spool with the trace, deleted when this value is dropped.
    pub spool: WorkDirectory,
    /// How the processor was used.
    pub acceleration: Acceleration,
    /// Time from the start of the machine to the trace.
    pub time: Duration,
}

/// The reason why a revision was not rehearsed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RehearseError {
    /// The host or the revision lacks something; the message names the remedy.
    #[error("{0}")]
    Missing(String),
    /// The boot failed; the end of the console follows.
    #[error("the boot failed: {why}; the end of its console:\n{console}")]
    Boot {
        /// What happened.
        why: String,
        /// The last lines.
        console: String,
    },
    /// The history cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be served.
    #[error("cannot serve the store to the machine: {0}")]
    Serve(#[from] ServeError),
    /// A file or process failed.
    #[error(transparent)]
    Io(#[from] Failed<std::io::Error>),
}

/// Boots `manifest` and waits for its trace. `progress` gets each line of the console. A machine that
/// ends before its first line under KVM is emulated: `/dev/kvm` may be there and not work, for example
/// inside another virtual machine.
///
/// # Errors
/// The machine cannot be started, or its boot fails or sends no trace within the time.
pub(crate) fn rehearse(
    history: &History,
    manifest: &Manifest,
    options: &RehearseOptions,
    progress: &dyn Fn(&str),
) -> Result<RehearsedBoot, RehearseError> {
    match boot(history, manifest, options, progress) {
        Err(RehearseError::Boot { why, console }) if options.kvm && console.is_empty() => {
            tracing::warn!("{why}: the processor is emulated instead (--no-kvm)");
            let options = RehearseOptions {
                kvm: false,
                ..options.clone()
            };
            boot(history, manifest, &options, progress)
        }
        done => done,
    }
}

/// One boot.
fn boot(
    history: &History,
    manifest: &Manifest,
    options: &RehearseOptions,
    progress: &dyn Fn(&str),
) -> Result<RehearsedBoot, RehearseError> {
    let choice = MenuChoice::of(manifest).map_err(RehearseError::Missing)?;
    let place = WorkDirectory::new("bakery-rehearse.")
        .doing(|| "cannot make a temporary directory".into())?;
    let spool = place.path().join("spool");
    let (kernel, initrd) = boot_files(history, manifest, place.path())?;
    let server = PrivateServer::start(&options.store, &spool)?;
    let menu = Menu {
        base: format!("http://{}", machine::SERVER),
        timeout: 0,
        again: None,
    };
    let (machine, acceleration) = VirtualMachine::describe(options, server.address())?;
    let command_line = format!(
        "{} {} {}",
        choice.command_line(&menu),
        archive::PARAMETERS,
        machine::CONSOLE
    );
    let started = Instant::now();
    let mut machine = machine.start(&kernel, &initrd, &command_line)?;
    let console = Console::of(&mut machine)?;
    let name = manifest.name();
    let sent = traces::of_history(&spool, &name.system, &name.profile);
    loop {
        console.lines(progress);
        if traces::newest(&sent).is_some() {
            break;
        }
        let why = match (console.failure(), machine.ended()?) {
            (Some(line), _) => line,
            (None, Some(status)) => format!("the machine ended ({status})"),
            (None, None) if started.elapsed() > options.timeout => {
                let seconds = options.timeout.as_secs();
                format!("no trace came within {seconds} s (--timeout)")
            }
            (None, None) => {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
        };
        drop(machine);
        let console = console.end();
        return Err(RehearseError::Boot { why, console });
    }
    drop(machine);
    drop(server);
    Ok(RehearsedBoot {
        spool: place,
        acceleration,
        time: started.elapsed(),
    })
}

impl RehearsedBoot {
    /// The directory with the trace, as a spool.
    pub(crate) fn traces(&self) -> PathBuf {
        self.spool.path().join("spool")
    }
}

/// The kernel, and the initramfs with our archive after it, as files of the machine.
fn boot_files(
    history: &History,
    manifest: &Manifest,
    place: &std::path::Path,
) -> Result<(PathBuf, PathBuf), RehearseError> {
    let name = RevisionName {
        name: manifest.name(),
        revision: Some(manifest.revision),
    };
    let missing = || {
        RehearseError::Missing(format!(
            "{name} has no kernel or no initramfs: run `bakery initrd {}`",
            name.name
        ))
    };
    let kernel = manifest.kernel.ok_or_else(missing)?;
    let initrd = manifest.initrd.ok_or_else(missing)?;
    let from = history.store().file(&Key::boot(&initrd.digest))?;
    let mut bytes = std::fs::read(&from).doing(|| format!("cannot read {}", from.display()))?;
    // An archive with an unknown compression may have it.
    if matches!(has_client(&bytes), Ok(Some(false))) {
        return Err(RehearseError::Missing(format!(
            "the initramfs of {name} has no layerfs client: run `bakery initrd {}`",
            name.name
        )));
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(archive::archive());
    let to = (place.join("kernel"), place.join("initrd"));
    let from = history.store().file(&Key::boot(&kernel.digest))?;
    std::fs::copy(&from, &to.0).doing(|| format!("cannot copy {}", from.display()))?;
    std::fs::write(&to.1, bytes).doing(|| format!("cannot write {}", to.1.display()))?;
    machine::readable(place)?;
    Ok(to)
}
