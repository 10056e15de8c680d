//! The collected files and pages of a predicted boot, in order.

use std::collections::HashMap;

use layerfmt::Ino;
use wire::trace::{PAGE_LEN, Touch};

use super::boot_tree::BootTree;
use super::elf_pages::{ElfFile, Usage};
use super::scripts;
use crate::limits::{
    PREDICT_FILE_LEN_MAX, PREDICT_FILES_MAX, PREDICT_HEAD_LEN, PREDICT_LEN_MAX, PREDICT_SCRIPTS_MAX,
};

/// Directories that the loader searches last.
const LIBRARY_DIRECTORIES: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// Directories of programs without a path.
const PROGRAM_DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Libraries that boots load for others and hardly call, as measured.
const SELDOM_CALLED: [&str; 13] = [
    "libm.so",
    "libgcrypt.so",
    "libzstd.so",
    "liblz4.so",
    "libcrypt.so",
    "libpcre2-8.so",
    "libkrb5.so",
    "libgssapi_krb5.so",
    "libk5crypto.so",
    "libkrb5support.so",
    "libtirpc.so",
    "libnsl.so",
    "libz.so",
];
/// A library in which only other libraries are interested is read whole up to this length.
const SMALL_LIBRARY_LEN: u64 = 192 << 10;
/// Longest chain of scripts that start scripts.
const SCRIPT_DEPTH_MAX: usize = 4;

/// Collects the files that a boot reads.
#[derive(Debug)]
pub(super) struct BootFiles<'t> {
    pub(super) tree: &'t BootTree<'t>,
    touches: Vec<Touch>,
    /// The most that was added of a file.
    added: HashMap<Ino, Usage>,
    parsed: HashMap<Ino, Option<std::rc::Rc<ElfFile>>>,
    /// Directories of libraries.
    directories: Vec<String>,
    found: HashMap<String, Option<Ino>>,
    /// Libraries of [`SELDOM_CALLED`] that this system does call.
    often: Vec<&'static str>,
    scripts: usize,
    len: u64,
}

impl<'t> BootFiles<'t> {
    pub(super) fn new(tree: &'t BootTree<'t>) -> Self {
        Self {
            tree,
            touches: Vec::new(),
            added: HashMap::new(),
            parsed: HashMap::new(),
            directories: library_directories(tree),
            found: HashMap::new(),
            often: Vec::new(),
            scripts: 0,
            len: 0,
        }
    }

    pub(super) fn into_touches(self) -> Vec<Touch> {
        self.touches
    }

    /// Counts a library among those that are called.
    pub(super) fn calls(&mut self, library: &'static str) {
        self.often.push(library);
    }

    /// Adds pages of a file.
    fn add(&mut self, ino: Ino, pages: &[u32]) {
        if self.len >= PREDICT_LEN_MAX || self.touches.len() >= PREDICT_FILES_MAX {
            return;
        }
        for page in pages {
            self.len += PAGE_LEN;
            match self.touches.last_mut() {
                Some(last)
                    if last.ino == ino && last.page.checked_add(last.count) == Some(*page) =>
                {
                    last.count += 1;
                }
                _ => self.touches.push(Touch {
                    ino,
                    page: *page,
                    count: 1,
                }),
            }
        }
    }

    /// Adds the first `len` bytes of a file.
    fn add_head(&mut self, ino: Ino, len: u64) {
        let end = self.tree.len(ino).min(len).div_ceil(PAGE_LEN);
        let pages: Vec<u32> = (0..u32::try_from(end).unwrap_or(0)).collect();
        self.add(ino, &pages);
    }

    /// Adds single pages of the file at `path`: those that hold the given offsets.
    pub(super) fn places(&mut self, ino: Ino, places: impl IntoIterator<Item = u64>) {
        let last = self.tree.len(ino).div_ceil(PAGE_LEN);
        let pages = places.into_iter().map(|place| place / PAGE_LEN);
        let pages: std::collections::BTreeSet<u32> = pages
            .filter(|page| *page < last)
            .filter_map(|page| u32::try_from(page).ok())
            .collect();
        let pages: Vec<u32> = pages.into_iter().collect();
        self.add(ino, &pages);
    }

    /// Adds the file at `path` whole, or its head if it is large. Returns true if it exists.
    pub(super) fn data(&mut self, path: &str) -> bool {
        let Some(ino) = self.tree.file(path) else {
            return false;
        };
        self.data_of(ino);
        true
    }

    /// Adds a file whole, or its head if it is large.
    pub(super) fn data_of(&mut self, ino: Ino) {
        if self.added.contains_key(&ino) {
            return;
        }
        self.added.insert(ino, Usage::Called);
        match self.tree.len(ino) {
            0 => {}
            len if len <= PREDICT_FILE_LEN_MAX => self.add_head(ino, len),
            _ => self.add_head(ino, PREDICT_HEAD_LEN),
        }
    }

    /// Adds a file whole.
    pub(super) fn whole_of(&mut self, ino: Ino) {
        if self.added.insert(ino, Usage::Called).is_none() {
            self.add_head(ino, u64::MAX);
        }
    }

    /// Adds the files of a directory whose names end with one of `endings`; all if there are none.
    pub(super) fn directory(&mut self, path: &str, endings: &[&str]) {
        for name in self.tree.names(path) {
            if endings.is_empty() || endings.iter().any(|ending| name.ends_with(ending)) {
                self.data(&format!("{path}/{name}"));
            }
        }
    }

    /// Adds the file at `path` by its kind: program, script, library or data.
    pub(super) fn any(&mut self, path: &str) {
        let Some(ino) = self.tree.file(path) else {
            return;
        };
        match self.elf(ino) {
            Some(_) if path.contains(".so") => self.elf_file(path, ino, Usage::Called),
            Some(_) => self.program(path),
            None if self.tree.is_program(ino) => self.program(path),
            None => self.data_of(ino),
        }
    }

    /// The path of a program: as it is, or in the directories of programs.
    pub(super) fn program_path(&self, name: &str) -> Option<String> {
        if name.contains('/') {
            return self.tree.file(name).map(|_| name.to_owned());
        }
        let paths = PROGRAM_DIRECTORIES
            .iter()
            .map(|directory| format!("{directory}/{name}"));
        paths
            .into_iter()
            .find(|path| self.tree.file(path).is_some())
    }

    /// Adds a program that is run: with its libraries, or as a script with its interpreter and the
    /// programs that it starts.
    pub(super) fn program(&mut self, name: &str) {
        self.program_at(name, 0);
    }

    fn program_at(&mut self, name: &str, depth: usize) {
        let Some((path, ino)) = self
            .program_path(name)
            .and_then(|path| self.tree.file(&path).map(|ino| (path, ino)))
        else {
            return;
        };
        if self.elf(ino).is_some() {
            self.elf_file(&self.tree.real(&path), ino, Usage::Called);
            return;
        }
        let is_known = self.added.contains_key(&ino);
        self.data_of(ino);
        if is_known || depth >= SCRIPT_DEPTH_MAX || self.scripts >= PREDICT_SCRIPTS_MAX {
            return;
        }
        self.scripts += 1;
        let Some(text) = self.tree.text_of(ino) else {
            return;
        };
        for program in scripts::interpreter(&text) {
            self.program_at(&program, depth + 1);
        }
        if scripts::is_shell(&text) {
            self.shell(&text, depth);
        }
    }

    /// Adds the programs that a shell script starts and the files that it reads.
    pub(super) fn shell(&mut self, text: &str, depth: usize) {
        for command in scripts::commands(text) {
            self.program_at(&command, depth + 1);
        }
        for file in scripts::sourced(text) {
            let is_known = self
                .tree
                .file(&file)
                .is_none_or(|ino| self.added.contains_key(&ino));
            if !is_known && depth < SCRIPT_DEPTH_MAX {
                self.data(&file);
                if let Some(text) = self.tree.text(&file) {
                    self.shell(&text, depth + 1);
                }
            }
        }
    }

    fn elf(&mut self, ino: Ino) -> Option<std::rc::Rc<ElfFile>> {
        let tree = self.tree;
        self.parsed
            .entry(ino)
            .or_insert_with(|| {
                ElfFile::read(|at, len| tree.bytes(ino, at, len)).map(std::rc::Rc::new)
            })
            .clone()
    }

    /// Adds an ELF file and the libraries that it needs, breadth first as the loader does.
    fn elf_file(&mut self, path: &str, ino: Ino, usage: Usage) {
        let mut queue = std::collections::VecDeque::from([(path.to_owned(), ino, usage)]);
        while let Some((path, ino, usage)) = queue.pop_front() {
            if self.added.get(&ino).is_some_and(|had| *had >= usage) {
                continue;
            }
            let Some(elf) = self.elf(ino) else {
                continue;
            };
            self.added.insert(ino, usage);
            self.add(ino, &elf.pages(usage, self.tree.len(ino)));
            if let Some(loader) = &elf.interpreter
                && let Some(at) = self.tree.file(loader)
            {
                self.data("/etc/ld.so.cache");
                queue.push_back((loader.clone(), at, Usage::Called));
            }
            // systemd's libraries are parts of its programs.
            let is_program = elf.interpreter.is_some() && !path.contains(".so");
            let is_program = is_program || path.contains("/systemd/");
            for name in &elf.needed {
                let Some((path, at)) = self.library(name, &path, &elf.search) else {
                    continue;
                };
                let usage = self.usage(name, at, is_program && usage == Usage::Called);
                queue.push_back((path, at, usage));
            }
        }
    }

    /// How much of a library is used that a program, or another library, needs.
    fn usage(&self, name: &str, ino: Ino, for_program: bool) -> Usage {
        let is = |known: &&&str| name.starts_with(**known);
        let is_seldom = SELDOM_CALLED.iter().any(|known| is(&known));
        let is_often = self.often.iter().any(|known| is(&known));
        if is_often || for_program && !is_seldom || name.starts_with("libc.") {
            return Usage::Called;
        }
        match self.tree.len(ino) <= SMALL_LIBRARY_LEN && !is_seldom {
            true => Usage::Called,
            false => Usage::Loaded,
        }
    }

    /// The library `name` that a file at `user` needs.
    fn library(&mut self, name: &str, user: &str, search: &[String]) -> Option<(String, Ino)> {
        let in_directory = |tree: &BootTree<'_>, directory: &str| {
            let path = format!("{directory}/{name}");
            tree.file(&path).map(|ino| (path, ino))
        };
        if name.contains('/') {
            return self.tree.file(name).map(|ino| (name.to_owned(), ino));
        }
        let origin = user.rsplit_once('/').map_or("", |(directory, _)| directory);
        for directory in search {
            let directory = directory.replace("${ORIGIN}", origin);
            let directory = directory.replace("$ORIGIN", origin);
            if let Some(found) = in_directory(self.tree, &directory) {
                return Some(found);
            }
        }
        if let Some(known) = self.found.get(name) {
            return known.map(|ino| (name.to_owned(), ino));
        }
        let found = self
            .directories
            .iter()
            .find_map(|directory| in_directory(self.tree, directory));
        self.found
            .insert(name.to_owned(), found.as_ref().map(|(_, ino)| *ino));
        found
    }

    /// Adds the library `name` if a directory of libraries has it.
    pub(super) fn named_library(&mut self, name: &str, usage: Usage) {
        if let Some((path, ino)) = self.library(name, "", &[]) {
            self.elf_file(&path, ino, usage);
        }
    }
}

/// The directories of `ld.so.conf` with its includes, then the usual ones.
fn library_directories(tree: &BootTree<'_>) -> Vec<String> {
    let mut directories = Vec::new();
    let mut read = |text: &str, more: &mut Vec<String>| {
        for line in text.lines().map(str::trim) {
            if let Some(pattern) = line.strip_prefix("include ") {
                more.push(pattern.trim().to_owned());
            } else if line.starts_with('/') {
                directories.push(line.to_owned());
            }
        }
    };
    let mut includes = Vec::new();
    read(
        &tree.text("/etc/ld.so.conf").unwrap_or_default(),
        &mut includes,
    );
    let mut ignored = Vec::new();
    for pattern in includes {
        let (directory, ending) = match pattern.rsplit_once("/*") {
            Some((directory, ending)) => (directory.to_owned(), ending.to_owned()),
            None => continue,
        };
        let directory = match directory.starts_with('/') {
            true => directory,
            false => format!("/etc/{directory}"),
        };
        for name in tree.names(&directory) {
            if name.ends_with(&ending) {
                let text = tree.text(&format!("{directory}/{name}"));
                read(&text.unwrap_or_default(), &mut ignored);
            }
        }
    }
    // musl has no configuration in most systems.
    directories.extend(LIBRARY_DIRECTORIES.map(str::to_owned));
    directories
}
