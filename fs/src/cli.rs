//! The command line: arguments only.

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
    pub command: CliCommand,
}

/// Commands of the program.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Mount a stack of layers, with a writable upper if one is given
    Mount(commands::mount::MountArgs),
    /// Unmount, and return when the daemon has released the upper
    Umount(commands::umount::UmountArgs),
    /// Send the changes of this machine to the bakery
    ///
    /// Streams the upper directory through ssh and returns with the job's number as soon as the
    /// server has stored it safely. The server bakes and publishes it; every machine that boots
    /// next gets the result.
    Push(commands::push::PushArgs),
    /// Show the layers and the counters of a mount
    Status(commands::status::StatusArgs),
    /// Show another revision in a running mount
    ///
    /// The mount of a server's system takes another revision: the newest, or the given one, which
    /// may be older. Programs that run and files that are open keep the content that they have.
    /// The upper wins; paths that both the upper and the revision change are conflicts, which
    /// --force accepts. A new kernel or initramfs takes effect with the next start.
    Switch(commands::switch::SwitchArgs),
    /// Watch for new revisions of the mounted system: announce them, or switch to them
    ///
    /// The service layerfs-follow runs this if layerfs.follow=notify or layerfs.follow=auto is on
    /// the kernel's command line. A new revision is announced once, in the journal and in
    /// /run/layerfs/new-revision. With auto the mount also switches to it, within the hours of
    /// --hours, unless there are conflicts.
    Follow(commands::follow::FollowArgs),
    /// Show the first accesses of this boot: files and pages
    Trace(commands::remote::TraceArgs),
    /// Send this boot's trace to the server, which uses it to speed up later boots
    PushTrace(commands::remote::PushTraceArgs),
    /// Show the duration and the costs of this boot
    ///
    /// Shows the time from the kernel's start until systemd reached the unit that ends a boot
    /// (without systemd: until now), and the counters of the mount. The counters are those of the
    /// moment, so run it early, as the service layerfs-boot-report does. With --send the server
    /// gets the report and the boot's trace; `bakery log` shows the median of each revision.
    BenchBoot(commands::bench_boot::BenchBootArgs),
    /// Report this machine to the fleet: revision, health, uptime, cache
    ///
    /// The service layerfs-hello runs this every five minutes. The health is systemd's state, the
    /// failed units, and the failed programs of /etc/layerfs/health.d. With layerfs.report=no the
    /// machine sends no hellos.
    Hello(commands::hello::HelloArgs),
    /// Steps of an initramfs
    #[command(subcommand, hide = true)]
    Initramfs(InitramfsCommand),
}

/// Steps of an initramfs.
#[derive(Debug, Subcommand)]
pub enum InitramfsCommand {
    /// Read the boot pack's pages into the page cache during the boot
    Warm(commands::warm::WarmArgs),
    /// Unpack the drivers that an initramfs keeps packed
    Unpack(commands::unpack::UnpackArgs),
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
            CliCommand::Mount(args) => commands::mount::run(&args, cli.verbose),
            CliCommand::Umount(args) => commands::umount::run(&args),
            CliCommand::Push(args) => commands::push::run(&args),
            CliCommand::Status(args) => commands::status::run(&args),
            CliCommand::Switch(args) => commands::switch::run(&args),
            CliCommand::Follow(args) => commands::follow::run(&args),
            CliCommand::Trace(args) => commands::remote::trace(&args),
            CliCommand::PushTrace(args) => commands::remote::push_trace(&args),
            CliCommand::BenchBoot(args) => commands::bench_boot::run(&args),
            CliCommand::Hello(args) => commands::hello::run(&args),
            CliCommand::Initramfs(InitramfsCommand::Warm(args)) => commands::warm::run(&args),
            CliCommand::Initramfs(InitramfsCommand::Unpack(args)) => commands::unpack::run(&args),
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
        ["initramfs", "warm", "--before-use", mountpoint] if !mountpoint.starts_with('-') => {
            let warm = commands::warm::WarmArgs {
                mountpoint: mountpoint.into(),
                before_use: true,
            };
            CliCommand::Initramfs(InitramfsCommand::Warm(warm))
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
            CliCommand::Mount(commands::mount::MountArgs {
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

    /// Both ways of parsing give the same result.
    #[test]
    fn the_calls_of_the_initramfs_are_read_as_the_parser_reads_them() {
        let options =
            "upperdir=/run/layerfs/upper/rw,workdir=/run/layerfs/upper/wk,keys=/k,timeout=5";
        let read: [&[&str]; 3] = [
            &["@layerfs", "initramfs", "warm", "--before-use", "/sysroot"],
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
            &["layerfs", "initramfs", "warm", "/sysroot"],
            &["layerfs", "initramfs", "warm", "--before-use", "--help"],
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
