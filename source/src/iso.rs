//! A live ISO: finds its system, kernel and initramfs.
//!
//! Read through `bsdtar`, without root and without a loop mount. The squashfs inside is copied,
//! still packed, to an unnamed file, because squashfs readers must seek.

mod layout;
mod menu;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::Path;

pub use self::layout::BootFiles;
use self::layout::Hints;
pub use self::menu::{MenuEntry, Parameters};
use super::limits::{BOOT_FILE_LEN_MAX, ISO_NAMES_MAX, MENU_TEXT_LEN_MAX, MENU_TEXTS_MAX};
use super::subprocess::{self, Output};
use super::{Limits, SourceError};

/// Ubuntu's parameter that names the topmost of its layers.
const TOPMOST: &str = "layerfs-path=";

/// An ISO image whose directory was read.
#[derive(Debug)]
pub struct Iso {
    name: String,
    file: File,
    names: Vec<String>,
    /// Files whose bytes are found under another name.
    links: HashMap<String, String>,
    menus: Vec<MenuEntry>,
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
            links: HashMap::new(),
            menus: Vec::new(),
        };
        let mut listing = String::new();
        let output = iso.bsdtar(&["-tf", "-"])?;
        let read = output.take(64 << 20).read_to_string(&mut listing);
        read.map_err(|cause| {
            SourceError::new(name, "cannot list the files of the ISO").cause(cause)
        })?;
        iso.names = files(&listing);
        iso.links = iso.read_links()?;
        iso.menus = iso.read_menus()?;
        Ok(iso)
    }

    /// Every file of the ISO.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The packed systems to import, lowest first: those for `wanted`, or the most complete one
    /// with all parts below it.
    ///
    /// # Errors
    /// There is none, or several are suitable.
    pub fn systems(&self, wanted: Option<&str>) -> Result<Vec<String>, SourceError> {
        if let Some(wanted) = wanted {
            if self.holds(wanted) {
                return Ok(layout::member(&self.names, wanted));
            }
            return Err(self.no_system(&format!("it has no file {wanted}")));
        }
        let order = match self.holds(layout::DEBIAN_ORDER) {
            true => Some(self.text(layout::DEBIAN_ORDER)?),
            false => None,
        };
        let options = self.menus.iter().flat_map(|entry| &entry.options);
        let topmost = options.filter_map(|word| word.strip_prefix(TOPMOST)).next();
        let hints = Hints {
            order,
            topmost: topmost.map(str::to_owned),
        };
        let found = layout::systems(&self.names, &hints);
        let found = found.map_err(|problem| SourceError::new(&self.name, problem))?;
        match found.is_empty() {
            true => Err(self.no_system("it contains no system at a known path")),
            false => Ok(found),
        }
    }

    fn no_system(&self, problem: &str) -> SourceError {
        let packed = self.names.iter().filter(|name| {
            let kinds = [".squashfs", ".sfs", ".img", ".erofs", ".ext4"];
            kinds.iter().any(|kind| name.ends_with(kind))
        });
        let others: Vec<&str> = packed.take(8).map(String::as_str).collect();
        let hint = match others.as_slice() {
            [] => "it does not look like a live ISO".to_owned(),
            others => format!("perhaps --member with one of: {}", others.join(", ")),
        };
        SourceError::new(&self.name, format!("{problem}; {hint}"))
    }

    /// Kernel and initramfs, if the ISO has a known pair.
    #[must_use]
    pub fn boot_files(&self) -> Option<BootFiles> {
        layout::boot_files(&self.names, &self.menus)
    }

    /// The kernel parameters with which the medium boots `kernel`: those of the first entry of its
    /// menus that names it, else of the first entry.
    #[must_use]
    pub fn parameters(&self, kernel: Option<&str>) -> Parameters {
        let same = |entry: &&MenuEntry| {
            kernel.is_some_and(|kernel| self.link(&entry.kernel) == self.link(kernel))
        };
        let entry = self.menus.iter().find(same).or(self.menus.first());
        entry.map(menu::parted).unwrap_or_default()
    }

    /// The name under which a file's bytes are found: files that share them are links.
    fn link<'n>(&'n self, name: &'n str) -> &'n str {
        self.links.get(name).map_or(name, String::as_str)
    }

    /// A short file of text.
    fn text(&self, member: &str) -> Result<String, SourceError> {
        let mut bytes = Vec::new();
        let read = self
            .read(member)?
            .take(MENU_TEXT_LEN_MAX)
            .read_to_end(&mut bytes);
        read.map_err(|cause| {
            SourceError::new(&self.name, format!("cannot read {member}")).cause(cause)
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The entries of all menus, the first boot loader's first.
    fn read_menus(&self) -> Result<Vec<MenuEntry>, SourceError> {
        let ranked = self.names.iter();
        let ranked = ranked.filter_map(|name| menu::rank(name).map(|rank| (rank, name)));
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_unstable();
        let mut entries = Vec::new();
        for (_, name) in ranked.into_iter().take(MENU_TEXTS_MAX) {
            entries.extend(menu::entries(&self.text(name)?, name));
        }
        Ok(entries)
    }

    /// The files that are links, according to the detailed listing: two directory entries with one
    /// extent, as live-build makes them.
    fn read_links(&self) -> Result<HashMap<String, String>, SourceError> {
        let mut links = HashMap::new();
        let mut listing = Vec::new();
        let output = self.bsdtar(&["-tvf", "-"])?;
        let read = output.take(256 << 20).read_to_end(&mut listing);
        read.map_err(|cause| {
            SourceError::new(&self.name, "cannot list the files of the ISO").cause(cause)
        })?;
        let names: HashSet<&str> = self.names.iter().map(String::as_str).collect();
        for line in String::from_utf8_lossy(&listing).lines() {
            // Fields precede the name; a name may contain spaces, so the listed name at the end of
            // the line decides.
            let name_in = |line: &str| {
                let starts = line.match_indices(' ').map(|(at, _)| at + 1);
                let found = starts.map(|at| trimmed(line.get(at..).unwrap_or_default()));
                found
                    .map(str::to_owned)
                    .find(|name| names.contains(&**name))
            };
            let Some((left, target)) = line.rsplit_once(" link to ") else {
                continue;
            };
            // If the name of a file contains these words itself, the line has more than the target.
            let target = trimmed(target).to_owned();
            if let Some(name) = name_in(left).filter(|_| name_in(line).as_ref() == Some(&target)) {
                links.insert(name, target);
            }
        }
        Ok(links)
    }

    fn holds(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Opens one file inside for reading.
    ///
    /// # Errors
    /// `bsdtar` cannot be started.
    pub fn read(&self, member: &str) -> Result<impl Read + use<>, SourceError> {
        // Escapes characters that bsdtar would interpret as wildcards.
        let mut pattern = String::new();
        for letter in self.link(member).chars() {
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
            len if len > BOOT_FILE_LEN_MAX => Err(wrong(format!("{member} is too large"))),
            _ => Ok(bytes),
        }
    }

    /// Copies one file inside to an unnamed file in `directory`.
    ///
    /// # Errors
    /// It cannot be read, or the directory is full.
    pub(crate) fn copy_out(
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
            SourceError::new(&self.name, "an ISO must be a seekable file").cause(cause)
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

/// A name without the dot in front that some media have.
fn trimmed(name: &str) -> &str {
    name.trim_start_matches("./")
}

/// The files of a listing; a name with others below it is a directory (Debian's `live/`, while ALT
/// has a file `live`).
fn files(listing: &str) -> Vec<String> {
    let lines = listing
        .lines()
        .take(ISO_NAMES_MAX)
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
