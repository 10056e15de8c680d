//! The command line: arguments only.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands;

/// Mount layers, locally or over the network
///
/// Exit codes: 0 success; 1 a negative answer; 2 failure.
#[derive(Debug, Parser)]
#[command(name = "layerfs", version, max_term_width = 100)]
pub struct Cli {
    /// Print more on standard error (twice: debugging)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount a stack of layers, with a writable upper if one is given
    Mount(MountArgs),
    /// Unmount, and return when the daemon has released the upper
    Umount(UmountArgs),
    /// Send the changes of this machine to the bakery
    ///
    /// Streams the upper directory through ssh and returns with the job's number as soon as the
    /// server has stored it safely. The server bakes and publishes it; every machine that boots
    /// next gets the result.
    Push(commands::push::Args),
    /// Show the layers and the counters of a mount
    Status(StatusArgs),
    /// Show the first accesses of this boot: files and pages
    Trace(commands::remote::TraceArgs),
    /// Send this boot's trace to the server, which uses it to speed up later boots
    PushTrace(commands::remote::PushTraceArgs),
    /// Show the duration and the costs of this boot
    ///
    /// The time from the kernel's start until systemd reached the unit that ends a boot, and the
    /// counters of the mount at the time of this command: run it early, as the service
    /// layerfs-boot-report does. Without systemd it shows the time until now. With --send the
    /// server gets the report and the boot's trace; `bakery log` shows the median of each revision.
    BenchBoot(commands::bench_boot::Args),
    /// Read the boot pack's pages into the page cache during the boot (run by the initramfs)
    Warm(commands::warm::Args),
    /// Unpack the drivers that an initramfs keeps packed (run by the initramfs)
    Unpack(commands::unpack::Args),
}

/// Arguments of `layerfs mount`.
#[derive(Debug, Clone, clap::Args)]
pub struct MountArgs {
    /// Source of the mount (top.layer:…:base.layer, a server's URL, or none with -o lowerdir=),
    /// then the mount point
    #[arg(value_name = "[SOURCE] MOUNTPOINT", required = true, num_args = 1..=2)]
    pub places: Vec<String>,
    /// Mount options, separated by commas: lowerdir=, upperdir=, workdir=, fsname=, ro,
    /// passthrough, volatile, chunk-cache=64M, threads=N (default: one per processor, 2 to 16),
    /// wait=10, log=FILE, nosuid, nodev, …
    #[arg(short = 'o', long = "options", value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// The network side.
    #[command(flatten)]
    pub remote: commands::remote::RemoteArgs,
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

/// Arguments of `layerfs umount`.
#[derive(Debug, Clone, clap::Args)]
pub struct UmountArgs {
    /// The mount point
    pub mountpoint: PathBuf,
    /// Detach now, and end when nothing uses the mount any more
    #[arg(short, long)]
    pub lazy: bool,
    /// Seconds to wait for the daemon to end
    #[arg(long, default_value_t = 30)]
    pub wait: u64,
}

/// Arguments of `layerfs status`.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// The mount point
    pub mountpoint: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Run the program: by its own name, as the helper of mount(8), or as the last one of a machine.
pub fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let name = arguments
        .first()
        .map(|name| name.to_string_lossy().into_owned());
    let name = name
        .as_deref()
        .and_then(|name| name.rsplit('/').next())
        .unwrap_or_default();
    if name == commands::shutdown::NAME {
        return commands::shutdown::run(&arguments);
    }
    let outcome = if name.starts_with("mount.") {
        commands::helper::run(&arguments)
    } else {
        let cli = initramfs_call(&arguments).unwrap_or_else(Cli::parse);
        match cli.command {
            Command::Mount(args) => commands::mount::run(&args, cli.verbose),
            Command::Umount(args) => commands::umount::run(&args),
            Command::Push(args) => commands::push::run(&args),
            Command::Status(args) => commands::status::run(&args),
            Command::Trace(args) => commands::remote::trace(&args),
            Command::PushTrace(args) => commands::remote::push_trace(&args),
            Command::BenchBoot(args) => commands::bench_boot::run(&args),
            Command::Warm(args) => commands::warm::run(&args),
            Command::Unpack(args) => commands::unpack::run(&args),
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("layerfs: {error:#}");
        ExitCode::from(2)
    })
}

/// Parses calls by the initramfs without clap: building the parser for all commands is a tenth of
/// the code that runs until the root is mounted, and in an emulator code that runs once is
/// expensive.
fn initramfs_call(arguments: &[std::ffi::OsString]) -> Option<Cli> {
    let words: Vec<&str> = arguments
        .iter()
        .skip(1)
        .map(|word| word.to_str().filter(|word| !word.is_empty()))
        .collect::<Option<_>>()?;
    let command = match *words.as_slice() {
        ["warm", "--before-use", mountpoint] if !mountpoint.starts_with('-') => {
            Command::Warm(commands::warm::Args {
                mountpoint: mountpoint.into(),
                before_use: true,
            })
        }
        [
            "mount",
            "--supervised",
            "--root-duty",
            "-o",
            options,
            source,
            mountpoint,
        ] if ![options, source, mountpoint]
            .iter()
            .any(|word| word.starts_with('-')) =>
        {
            Command::Mount(MountArgs {
                places: vec![source.to_owned(), mountpoint.to_owned()],
                options: vec![options.to_owned()],
                remote: commands::remote::RemoteArgs::default(),
                foreground: false,
                root_duty: true,
                namespace: None,
                supervised: true,
            })
        }
        _ => return None,
    };
    Some(Cli {
        verbose: 0,
        command,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<std::ffi::OsString> {
        words.iter().map(Into::into).collect()
    }

    /// With and without the parser it is the same.
    #[test]
    fn the_calls_of_the_initramfs_are_read_as_the_parser_reads_them() {
        let options =
            "upperdir=/run/layerfs/upper/rw,workdir=/run/layerfs/upper/wk,keys=/k,timeout=5";
        let read: [&[&str]; 3] = [
            &["@layerfs", "warm", "--before-use", "/sysroot"],
            &[
                "@layerfs",
                "mount",
                "--supervised",
                "--root-duty",
                "-o",
                options,
                "http://s/x@3",
                "/sysroot",
            ],
            &[
                "layerfs",
                "mount",
                "--supervised",
                "--root-duty",
                "-o",
                "ro",
                "a.layer:b.layer",
                "/m",
            ],
        ];
        for words in read {
            let words = owned(words);
            let quick = initramfs_call(&words).unwrap();
            assert_eq!(
                format!("{quick:?}"),
                format!("{:?}", Cli::parse_from(&words))
            );
        }
        let left: [&[&str]; 5] = [
            &["layerfs", "warm", "/sysroot"],
            &["layerfs", "warm", "--before-use", "--help"],
            &[
                "layerfs",
                "mount",
                "--supervised",
                "--root-duty",
                "-o",
                "ro",
                "x",
                "-v",
            ],
            &["layerfs", "mount", "--supervised", "--root-duty", "x", "/m"],
            &["layerfs", "mount", "a", "/m"],
        ];
        for words in left {
            let words = owned(words);
            assert!(initramfs_call(&words).is_none(), "{words:?}");
        }
    }
}
