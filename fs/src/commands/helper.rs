//! The helper of mount(8): `mount.layerfs SOURCE DIR [-sfnv] [-t TYPE] [-o OPTIONS]`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use rustix::mount::MountFlags;

use crate::options::MountOptions;

/// Do what mount(8) asks.
///
/// # Errors
/// As `layerfs mount`.
pub fn run(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut places = Vec::new();
    let mut texts = Vec::new();
    let mut fake = false;
    let mut rest = arguments
        .iter()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-o" => texts.push(rest.next().context("-o needs options")?),
            "-t" | "-N" => drop(rest.next()),
            "-r" => texts.push("ro".to_owned()),
            "-w" => texts.push("rw".to_owned()),
            flags if flags.starts_with('-') => fake |= flags.contains('f'),
            _ => places.push(argument),
        }
    }
    let [source, mountpoint] = &places[..] else {
        bail!("usage: mount.layerfs SOURCE DIR -o …")
    };
    let mut options = MountOptions::default();
    for text in &texts {
        options.parse(text)?;
    }
    if fake {
        return Ok(ExitCode::SUCCESS);
    }
    if options.remount {
        remount(&PathBuf::from(mountpoint), options.flags)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut again: Vec<OsString> = vec!["mount".into(), "--supervised".into()];
    for text in texts {
        again.extend(["-o".into(), text.into()]);
    }
    again.extend(["--".into(), source.into(), mountpoint.into()]);
    super::mount::start_in_background(again, options.root_duty)
}

fn remount(mountpoint: &PathBuf, flags: MountFlags) -> anyhow::Result<()> {
    rustix::mount::mount_remount(mountpoint, flags, "")
        .with_context(|| format!("remount {}", mountpoint.display()))
}
