//! The command `bakery rehearse`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use wire::manifest::RevisionName;

use crate::globals::Globals;
use crate::output;
use crate::progress;
use crate::publish::pack::{PackReport, Sources, has_pack_of_boots, publish};
use crate::rehearse::{Acceleration, RehearseOptions, connect, rehearse};

/// Boot a revision in a virtual machine of this server, and make its boot pack
///
/// The machine has no disk, no network but this store, and the kernel and the initramfs of the
/// revision. The pack of its boot's trace is published like one of `bakery pack`, so the first
/// client boots like later ones. Needs QEMU; with /dev/kvm it takes seconds, without it a few
/// minutes. As root the machine runs under the account nobody.
#[derive(Debug, clap::Args)]
pub struct RehearseArgs {
    /// The revision; without a number the newest
    #[arg(
        value_name = "SYSTEM[/PROFILE][@REV]",
        required_unless_present = "pipe"
    )]
    revision: Option<RevisionName>,
    /// Longest time of the boot, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// Memory of the machine, MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(128..=65536))]
    memory: u32,
    /// The emulator [default: qemu-system-x86_64 or qemu-system-aarch64]
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// Emulate the processor even if /dev/kvm can be used
    #[arg(long)]
    no_kvm: bool,
    /// Replace also a pack that boots made
    #[arg(long)]
    force: bool,
    /// Pass a connection of the machine on to this address (for QEMU)
    #[arg(long, hide = true, value_name = "ADDR:PORT", exclusive = true)]
    pipe: Option<SocketAddr>,
}

/// The result of a rehearsal.
#[derive(Debug, Serialize)]
struct Rehearsed {
    /// The revision that was booted.
    booted: String,
    /// How the processor was used.
    acceleration: Acceleration,
    /// Seconds from the start of the machine to the trace.
    seconds: f64,
    /// The pack.
    pack: PackReport,
}

/// Boots, packs and publishes.
///
/// # Errors
/// Something is missing, the boot fails, or the pack cannot be published.
pub(crate) fn run(args: RehearseArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    if let Some(address) = args.pipe {
        connect(address).with_context(|| format!("no connection to {address}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = args.revision.context("no revision is named")?;
    let publisher = globals.publisher()?;
    let history = publisher.history();
    let revision = match wanted.revision {
        Some(_) => history.revision(&wanted)?,
        None => history.require_head(&wanted.name)?,
    };
    if !args.force && has_pack_of_boots(history, &revision.manifest)? {
        let name = revision.name();
        let note = format!("{name} keeps its boot pack, which boots made (--force replaces it)");
        output::note(globals, &note);
        return Ok(ExitCode::SUCCESS);
    }
    let options = RehearseOptions {
        store: globals.store()?.to_owned(),
        timeout: Duration::from_secs(args.timeout),
        memory: args.memory,
        qemu: args.qemu,
        kvm: !args.no_kvm,
    };
    let bar = progress::items(globals, None, &format!("booting {}", revision.name()));
    let show = |line: &str| {
        tracing::debug!("console: {line}");
        bar.inc(1);
    };
    let boot = rehearse(history, &revision.manifest, &options, &show)
        .with_context(|| format!("no rehearsal of {}", revision.name()))?;
    bar.finish_and_clear();
    let sources = Sources {
        spool: Some(boot.traces()),
        files: Vec::new(),
        share: 1,
        predict: false,
    };
    let pack = publish(&publisher, &wanted.name, &sources, args.force)
        .with_context(|| format!("{} was booted, but no pack was made", revision.name()))?;
    let answer = Rehearsed {
        booted: revision.name().to_string(),
        acceleration: boot.acceleration,
        seconds: boot.time.as_secs_f64(),
        pack,
    };
    output::emit(globals, &answer, |out| {
        let how = match answer.acceleration {
            Acceleration::Kvm => "KVM",
            Acceleration::Emulation => "emulation",
        };
        let (booted, seconds) = (&answer.booted, answer.seconds);
        writeln!(out, "{booted} booted in {seconds:.1} s ({how})")?;
        write!(out, "{}", super::pack::describe(&answer.pack))
    })?;
    Ok(ExitCode::SUCCESS)
}
