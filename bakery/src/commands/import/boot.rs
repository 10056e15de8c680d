//! Kernel, initrd and kernel parameters of a revision: those named, else those of the medium.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::ImportArgs;
use source::iso::{Iso, Parameters};
use source::magic::{HEAD_LEN, SourceForm, form};
use source::window::Window;

/// Kernel, initramfs and parameters: names for messages, and the current places of the files.
#[derive(Debug, Default)]
pub(super) struct BootPair {
    pub(super) kernel: Option<(String, PathBuf)>,
    pub(super) initrd: Option<(String, PathBuf)>,
    pub(super) cmdline: String,
    /// The medium's parameters, if its boot menu could be read.
    pub(super) parameters: Option<Parameters>,
}

impl BootPair {
    /// The named files and parameters, else those of the medium.
    pub(super) fn find(
        args: &ImportArgs,
        iso: Option<&Iso>,
        staging: &Path,
    ) -> anyhow::Result<Self> {
        let named = |file: &Option<PathBuf>| {
            file.as_ref()
                .map(|file| (file.display().to_string(), file.clone()))
        };
        let mut boot = BootPair {
            kernel: named(&args.kernel),
            initrd: named(&args.initrd),
            cmdline: args.cmdline.clone().unwrap_or_default(),
            parameters: None,
        };
        let Some(iso) = iso else {
            return Ok(boot);
        };
        let files = iso.boot_files();
        if args.cmdline.is_none() {
            let kernel = files.as_ref().map(|files| files.kernel.as_str());
            let parameters = iso.parameters(kernel);
            boot.cmdline = parameters.kept.join(" ");
            boot.parameters = Some(parameters).filter(|found| !found.place.is_empty());
        }
        let Some(files) = files else {
            return Ok(boot);
        };
        for (slot, member) in [
            (&mut boot.kernel, files.kernel),
            (&mut boot.initrd, files.initrd),
        ] {
            if slot.is_none() {
                let file = staging.join(member.replace('/', "-"));
                std::fs::write(&file, iso.boot_file(&member)?)
                    .with_context(|| format!("cannot write {}", file.display()))?;
                *slot = Some((member, file));
            }
        }
        Ok(boot)
    }

    /// The lines of the answer for a person.
    pub(super) fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for (what, found) in [("kernel", &self.kernel), ("initrd", &self.initrd)] {
            let name = found
                .as_ref()
                .map_or("none: name one with --kernel and --initrd", |(name, _)| {
                    name
                });
            writeln!(out, "{what:10} {name}")?;
        }
        let place = self.parameters.as_ref().map(|found| found.place.as_str());
        let from = place.map_or_else(String::new, |place| format!(" (from {place})"));
        if !self.cmdline.is_empty() || place.is_some() {
            let shown = if self.cmdline.is_empty() {
                "none"
            } else {
                &self.cmdline
            };
            writeln!(out, "cmdline    {shown}{from}")?;
        }
        let left_out = self.parameters.iter().flat_map(|found| &found.left_out);
        let left_out: Vec<&str> = left_out.map(String::as_str).collect();
        if !left_out.is_empty() {
            writeln!(
                out,
                "excluded   {}: for the medium's own initramfs",
                left_out.join(" ")
            )?;
        }
        Ok(())
    }
}

/// The source as an ISO, if it is one.
pub(super) fn iso(source: &Path) -> anyhow::Result<Option<Iso>> {
    if !source.is_file() {
        return Ok(None);
    }
    let name = source.display().to_string();
    let file = File::open(source).with_context(|| format!("cannot open {name}"))?;
    let unreadable = || format!("cannot read {name}");
    let window = Window::whole(file).with_context(unreadable)?;
    match form(&window.head(HEAD_LEN).with_context(unreadable)?) {
        Ok(SourceForm::Iso) => Ok(Some(Iso::open(&name, &window.into_parts().0)?)),
        _ => Ok(None),
    }
}
