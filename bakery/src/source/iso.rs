//! A live ISO: which file inside is the system, and where its kernel and initrd are.
//!
//! Read through `bsdtar`, without root and without a loop mount. The squashfs inside is copied,
//! packed as it is, to an unnamed file, because squashfs readers must seek.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::Path;

use super::subprocess::{self, Output};
use super::{Limits, SourceError};

/// Most names an ISO may list; a DVD with a full package repository has 30,000.
const NAMES_MAX: usize = 1_000_000;
/// Largest kernel or initrd.
const BOOT_FILE_LEN_MAX: u64 = 2 << 30;

/// Systems inside an ISO, the most complete one first: ALT's live, installer and rescue images,
/// Debian live, Ubuntu.
const SYSTEMS: [&str; 5] = [
    "live",
    "altinst",
    "rescue",
    "live/filesystem.squashfs",
    "casper/filesystem.squashfs",
];

/// Kernel and initrd pairs, in the order to try them (after the pairs with versions in their
/// names, see [`boot_files`]).
const BOOT_PAIRS: [(&str, &str); 9] = [
    ("boot/vmlinuz", "boot/initrd.img"),
    ("boot/vmlinuz", "boot/full.cz"),
    ("syslinux/alt0/vmlinuz", "syslinux/alt0/full.cz"),
    ("isolinux/alt0/vmlinuz", "isolinux/alt0/full.cz"),
    ("EFI/BOOT/vmlinuz", "EFI/BOOT/full.cz"),
    ("live/vmlinuz", "live/initrd.img"),
    ("live/vmlinuz", "live/initrd"),
    ("casper/vmlinuz", "casper/initrd"),
    ("install/vmlinuz", "install/initrd.gz"),
];

/// An ISO image whose directory was read.
#[derive(Debug)]
pub struct Iso {
    name: String,
    file: File,
    names: Vec<String>,
}

/// Where an ISO keeps its kernel and initrd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// Path of the kernel inside the ISO.
    pub kernel: String,
    /// Path of the initrd inside the ISO.
    pub initrd: String,
}

impl Iso {
    /// Reads the directory of the ISO in `file`.
    ///
    /// # Errors
    /// `bsdtar` is missing or cannot read the image.
    pub fn open(name: &str, file: &File) -> Result<Self, SourceError> {
        let file = file
            .try_clone()
            .map_err(|e| SourceError::new(name, "cannot duplicate a descriptor").cause(e))?;
        let mut iso = Iso {
            name: name.to_owned(),
            file,
            names: Vec::new(),
        };
        let mut listing = String::new();
        let output = iso.bsdtar(&["-tf", "-"])?;
        let read = output.take(64 << 20).read_to_string(&mut listing);
        read.map_err(|cause| {
            SourceError::new(name, "cannot list what the ISO holds").cause(cause)
        })?;
        iso.names = files(&listing);
        Ok(iso)
    }

    /// Every file of the ISO.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The squashfs to import: `wanted`, or the most complete system there is.
    ///
    /// # Errors
    /// There is none; the message lists what was looked for.
    pub fn system(&self, wanted: Option<&str>) -> Result<String, SourceError> {
        let candidates = match wanted {
            Some(name) => vec![name],
            None => SYSTEMS.to_vec(),
        };
        let found = candidates.iter().find(|name| self.holds(name));
        found.map(|name| (*name).to_owned()).ok_or_else(|| {
            let looked_for = candidates.join(", ");
            let squashed = self.names.iter().filter(|name| {
                name.ends_with(".squashfs") || name.ends_with(".sfs") || name.ends_with(".img")
            });
            let others: Vec<&str> = squashed.take(8).map(String::as_str).collect();
            let hint = match others.as_slice() {
                [] => "it does not look like a live ISO".to_owned(),
                others => format!("perhaps --member with one of: {}", others.join(", ")),
            };
            SourceError::new(
                &self.name,
                format!("no system inside (looked for {looked_for}); {hint}"),
            )
        })
    }

    /// Kernel and initrd, where the ISO has a pair we know.
    #[must_use]
    pub fn boot_files(&self) -> Option<BootFiles> {
        boot_files(&self.names)
    }

    fn holds(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Opens one file inside for reading.
    ///
    /// # Errors
    /// `bsdtar` cannot be started.
    pub fn read(&self, member: &str) -> Result<impl Read + use<>, SourceError> {
        // A pattern: what bsdtar would take as a wildcard is taken as it stands.
        let mut pattern = String::new();
        for letter in member.chars() {
            if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        Ok(self.bsdtar(&["-xOf", "-", "--", &pattern])?.take(u64::MAX))
    }

    /// Reads a kernel or initrd whole.
    ///
    /// # Errors
    /// It cannot be read, is empty or absurdly large.
    pub fn boot_file(&self, member: &str) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        let wrong = |problem: String| SourceError::new(&self.name, problem);
        self.read(member)?
            .take(BOOT_FILE_LEN_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|cause| wrong(format!("cannot read {member}")).cause(cause))?;
        match bytes.len() as u64 {
            0 => Err(wrong(format!("{member} is empty"))),
            len if len > BOOT_FILE_LEN_MAX => Err(wrong(format!("{member} is absurdly large"))),
            _ => Ok(bytes),
        }
    }

    /// Copies one file inside to an unnamed file in `directory`.
    ///
    /// # Errors
    /// It cannot be read, or the directory is full.
    pub fn copy_out(
        &self,
        member: &str,
        directory: &Path,
        limits: Limits,
    ) -> Result<File, SourceError> {
        let place = directory.display();
        let refused = |problem: String, cause| SourceError::new(&self.name, problem).cause(cause);
        let mut copy = tempfile::tempfile_in(directory)
            .map_err(|cause| refused(format!("cannot make a temporary file in {place}"), cause))?;
        let mut input = self.read(member)?.take(limits.expanded_len_max);
        io::copy(&mut input, &mut copy)
            .and_then(|_| copy.rewind())
            .map_err(|cause| {
                refused(
                    format!("cannot copy {member} to a temporary file in {place}"),
                    cause,
                )
            })?;
        Ok(copy)
    }

    fn bsdtar(&self, arguments: &[&str]) -> Result<Output, SourceError> {
        let mut file = &self.file;
        file.rewind().map_err(|cause| {
            SourceError::new(&self.name, "an ISO must be a file that can be sought in").cause(cause)
        })?;
        subprocess::start(
            "bsdtar",
            "libarchive-tools",
            arguments,
            &self.file,
            &self.name,
        )
    }
}

/// The files of a listing; a name that others lie below is a directory (Debian's `live/`, where
/// ALT has a file `live`).
fn files(listing: &str) -> Vec<String> {
    let lines = listing
        .lines()
        .take(NAMES_MAX)
        .map(|line| line.trim_start_matches("./"));
    let mut names: Vec<&str> = lines.map(|line| line.trim_end_matches('/')).collect();
    names.sort_unstable();
    let directories: HashSet<&str> = names
        .iter()
        .flat_map(|name| {
            name.match_indices('/')
                .filter_map(|(slash, _)| name.get(..slash))
        })
        .collect();
    let is_file = |name: &&&str| !name.is_empty() && !directories.contains(**name);
    names
        .iter()
        .filter(is_file)
        .map(|name| (*name).to_owned())
        .collect()
}

/// The kernel and initrd among `names`: a known pair first; then, as Debian's live images have
/// it, the pair of the highest version in `live/` or `boot/`.
fn boot_files(names: &[String]) -> Option<BootFiles> {
    let holds = |name: &str| names.iter().any(|known| known == name);
    let known = BOOT_PAIRS
        .iter()
        .find(|(kernel, initrd)| holds(kernel) && holds(initrd));
    if let Some((kernel, initrd)) = known {
        return Some(BootFiles {
            kernel: (*kernel).to_owned(),
            initrd: (*initrd).to_owned(),
        });
    }
    for directory in ["live", "boot"] {
        let prefix = format!("{directory}/vmlinuz-");
        let mut versions: Vec<&str> = names
            .iter()
            .filter_map(|name| name.strip_prefix(&*prefix))
            .collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version_key(version)));
        for version in versions {
            let spellings = [
                format!("{directory}/initrd.img-{version}"),
                format!("{directory}/initrd-{version}.img"),
                format!("{directory}/initrd-{version}"),
            ];
            if let Some(initrd) = spellings.into_iter().find(|name| holds(name)) {
                return Some(BootFiles {
                    kernel: format!("{prefix}{version}"),
                    initrd,
                });
            }
        }
    }
    None
}

/// Orders `6.1.0-9` before `6.1.0-10`: runs of digits as numbers, the rest as text.
fn version_key(version: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let mut rest = version;
    while !rest.is_empty() {
        let text_len = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (text, after) = rest.split_at(text_len);
        let digits_len = after
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(after.len());
        let (digits, after) = after.split_at(digits_len);
        parts.push((0, text.to_owned()));
        parts.push((digits.parse().unwrap_or(u64::MAX), String::new()));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Option<(String, String)> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        boot_files(&names).map(|files| (files.kernel, files.initrd))
    }

    #[test]
    fn kernels_are_found_in_every_known_layout() {
        let table: &[(&[&str], Option<(&str, &str)>)] = &[
            // ALT p10/p11 live.
            (
                &[
                    "live",
                    "boot/vmlinuz",
                    "boot/initrd.img",
                    "boot/vmlinuz-6.1",
                    "EFI/BOOT/x.efi",
                ],
                Some(("boot/vmlinuz", "boot/initrd.img")),
            ),
            // ALT with propagator.
            (
                &[
                    "altinst",
                    "boot/vmlinuz",
                    "boot/full.cz",
                    "syslinux/alt0/vmlinuz",
                ],
                Some(("boot/vmlinuz", "boot/full.cz")),
            ),
            // ALT before.
            (
                &["isolinux/alt0/full.cz", "isolinux/alt0/vmlinuz"],
                Some(("isolinux/alt0/vmlinuz", "isolinux/alt0/full.cz")),
            ),
            (
                &["EFI/BOOT/vmlinuz", "EFI/BOOT/full.cz"],
                Some(("EFI/BOOT/vmlinuz", "EFI/BOOT/full.cz")),
            ),
            // Debian live: versions only.
            (
                &[
                    "live/vmlinuz-6.1.0-9-amd64",
                    "live/vmlinuz-6.1.0-10-amd64",
                    "live/initrd.img-6.1.0-9-amd64",
                    "live/initrd.img-6.1.0-10-amd64",
                ],
                Some((
                    "live/vmlinuz-6.1.0-10-amd64",
                    "live/initrd.img-6.1.0-10-amd64",
                )),
            ),
            (&["boot/vmlinuz"], None),
            (&[], None),
        ];
        for (names, expected) in table {
            let expected = expected.map(|(k, i)| (k.to_owned(), i.to_owned()));
            assert_eq!(found(names), expected, "{names:?}");
        }
    }
}
