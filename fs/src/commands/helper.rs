//! The helper of mount(8), under the names `mount.layerfs` and `mount.fuse.layerfs`: `mount.layerfs SOURCE DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use rustix::mount::MountFlags;

use crate::options::{self, MountOptions};
use crate::sys;

/// The arguments of mount(8).
#[derive(Debug, Default)]
struct HelperCall {
    source: String,
    mountpoint: String,
    /// The texts after `-o`.
    texts: Vec<String>,
    /// `-s`: ignore unknown options.
    sloppy: bool,
    /// `-f`: only check.
    fake: bool,
    /// The option `-v`.
    verbose: bool,
    /// `-N`: the mount namespace to mount in.
    namespace: Option<PathBuf>,
}

impl HelperCall {
    fn parse(arguments: &[OsString]) -> anyhow::Result<HelperCall> {
        let mut request = HelperCall::default();
        let mut places = Vec::new();
        let given = arguments.iter().skip(1);
        let mut rest = given.map(|argument| argument.to_string_lossy().into_owned());
        while let Some(argument) = rest.next() {
            let mut value = || {
                rest.next()
                    .with_context(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "-o" => request.texts.push(value()?),
                "-N" => request.namespace = Some(value()?.into()),
                "-t" => drop(value()?),
                "-r" => request.texts.push("ro".to_owned()),
                "-w" => request.texts.push("rw".to_owned()),
                flags if flags.starts_with('-') => request.set_flags(flags)?,
                _ => places.push(argument),
            }
        }
        let [source, mountpoint] = <[String; 2]>::try_from(places).map_err(|_| {
            anyhow::anyhow!("usage: mount.layerfs SOURCE DIR [-sfnv] [-N NAMESPACE] [-t TYPE] -o …")
        })?;
        Ok(HelperCall {
            source,
            mountpoint,
            ..request
        })
    }

    fn set_flags(&mut self, flags: &str) -> anyhow::Result<()> {
        for flag in flags.chars().skip(1) {
            match flag {
                's' => self.sloppy = true,
                'f' => self.fake = true,
                'v' => self.verbose = true,
                // The program writes no /etc/mtab.
                'n' => {}
                _ => bail!(
                    "unknown flag -{flag} in {flags}: mount.layerfs knows -s -f -n -v -N -t -o -r -w"
                ),
            }
        }
        Ok(())
    }

    fn leave_out_unknown(&mut self) {
        for text in &mut self.texts {
            let (kept, unknown) = options::without_unknown(text);
            for name in unknown {
                eprintln!("mount.layerfs: unknown mount option {name:?} is ignored (-s)");
            }
            *text = kept;
        }
    }
}

/// Performs the request of mount(8).
///
/// # Errors
/// The errors of `layerfs mount`.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut request = HelperCall::parse(arguments)?;
    if request.sloppy {
        request.leave_out_unknown();
    }
    let mut options = MountOptions::default();
    for text in &request.texts {
        options.parse(text)?;
    }
    if request.fake {
        return Ok(ExitCode::SUCCESS);
    }
    if options.remount {
        if let Some(namespace) = &request.namespace {
            sys::process::enter_mount_namespace(namespace)
                .with_context(|| format!("mount namespace {}", namespace.display()))?;
        }
        remount(Path::new(&request.mountpoint), options.flags)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut again: Vec<OsString> = vec!["mount".into(), "--supervised".into()];
    if request.verbose {
        again.push("-v".into());
    }
    if let Some(namespace) = request.namespace {
        again.extend(["--namespace".into(), namespace.into()]);
    }
    for text in request.texts {
        again.extend(["-o".into(), text.into()]);
    }
    again.extend([
        "--".into(),
        request.source.into(),
        request.mountpoint.into(),
    ]);
    super::mount::start_in_background(again, options.root_duty)
}

/// By mount(2): the newer calls, with which mount(8) works since util-linux 2.39, are refused by FUSE.
fn remount(mountpoint: &Path, flags: MountFlags) -> anyhow::Result<()> {
    let times = options::access_times(flags);
    // The daemon receives these flags through the mount, which must be writable at that time:
    // before or after.
    let send = || {
        let name = options::ACCESS_TIMES_XATTR;
        let any = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(mountpoint, name, times.as_bytes(), any)
    };
    let is_sent = times.is_empty() || send().is_ok();
    rustix::mount::mount_remount(mountpoint, flags, "")
        .with_context(|| format!("remount {}", mountpoint.display()))?;
    match if is_sent { Ok(()) } else { send() } {
        // Nothing is written there, not even access times.
        Ok(()) | Err(sys::Errno::ROFS) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{times} on {}", mountpoint.display())),
    }
}
