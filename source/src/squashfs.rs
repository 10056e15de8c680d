//! A squashfs image, read through `sqfs2tar`: lossless, and streaming.

use std::fs::File;
use std::io;

use super::subprocess::{self, Output};
use super::tar::Tar;
use super::{Entry, Limits, Source, SourceError};

/// The program that reads single files, and its package.
const READER: (&str, &str) = ("rdsquashfs", "squashfs-tools-ng");
const IMAGE: &str = "/proc/self/fd/0";

/// True if the image in `file` has an object at `path`.
///
/// # Errors
/// `rdsquashfs` cannot be started.
pub fn holds(name: &str, file: &File, path: &str) -> Result<bool, SourceError> {
    let mut output = subprocess::start(READER.0, READER.1, &["--stat", path, IMAGE], file, name)?;
    // Reading reveals faults of the image.
    Ok(io::copy(&mut output, &mut io::sink()).is_ok())
}

/// The bytes of the regular file at `path`.
///
/// # Errors
/// `rdsquashfs` cannot be started.
pub fn cat(name: &str, file: &File, path: &str) -> Result<Output, SourceError> {
    subprocess::start(READER.0, READER.1, &["--cat", path, IMAGE], file, name)
}

/// A squashfs image being read.
#[derive(Debug)]
pub struct Squashfs {
    tar: Tar<Output>,
    /// The first path with an attribute whose name and value cannot be separated.
    unclear: Option<String>,
}

impl Squashfs {
    /// The image in `file`.
    ///
    /// # Errors
    /// `sqfs2tar` cannot be started.
    pub fn open(name: &str, file: &File, limits: Limits) -> Result<Self, SourceError> {
        // sqfs2tar writes the root's own metadata only if the root gets a name.
        let arguments = ["--root-becomes", ".", "/proc/self/fd/0"];
        let output = subprocess::start("sqfs2tar", "squashfs-tools-ng", &arguments, file, name)?;
        Ok(Squashfs {
            unclear: None,
            tar: Tar::new(name, output, limits).with_raw_names(),
        })
    }
}

impl Source for Squashfs {
    fn next_entry(&mut self) -> Result<Option<Entry<'_>>, SourceError> {
        let entry = self.tar.next_entry()?;
        if let Some(entry) = &entry
            && self.unclear.is_none()
            && entry
                .meta
                .xattrs()
                .any(|(name, value)| is_unclear(name, value))
        {
            self.unclear = Some(entry.path.to_string());
        }
        Ok(entry)
    }

    fn name(&self) -> &str {
        self.tar.name()
    }

    fn notes(&mut self) -> Vec<String> {
        // Objects that it could not put into a tar archive, such as sockets.
        let said = self.tar.input_mut().said();
        let mut notes: Vec<String> = said.map(|line| format!("sqfs2tar: {line}")).collect();
        if let Some(path) = self.unclear.take() {
            notes.push(format!(
                "{path}: an attribute has an = in its value or in its name, which sqfs2tar does \
                 not distinguish: it is read as part of the value; if names contain one, bake the \
                 mounted image"
            ));
        }
        notes
    }
}

/// True if the name of an attribute may be longer: sqfs2tar writes `NAME=VALUE` without escapes.
/// Only names in these namespaces are arbitrary.
fn is_unclear(name: &[u8], value: &[u8]) -> bool {
    (name.starts_with(b"user.") || name.starts_with(b"trusted.")) && value.contains(&b'=')
}
