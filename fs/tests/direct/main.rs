//! The merge and copy-up rules without a mount and without root: the tests of `tests/semantics` and the model, in this process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "a test says what is wrong by failing"
)]

mod handles;
mod log;
#[path = "../../../tests/model/mod.rs"]
mod model;
#[path = "../../../tests/scratch.rs"]
mod scratch;
#[path = "../../../tests/semantics/mod.rs"]
mod semantics;
#[path = "../../../tests/session/mod.rs"]
mod session;
mod single_pages;
mod switches;

#[test]
#[ignore = "a measurement; `make semantics-figures` compares it with a mount"]
fn model_in_the_process() {
    let took = model::measure(500, 100, transport::begin, transport::bake);
    println!(
        "model, 500 x 100 operations in the process: {:.1?}, calls of the file system {:.1?}",
        took.whole, took.calls
    );
}

/// Sessions in this process.
mod transport {
    use std::path::{Path, PathBuf};

    use crate::log;
    use crate::scratch::Scratch;
    pub(crate) use crate::session::baker::bake;
    use crate::session::direct::Direct;
    use crate::session::{Attached, Parts};

    /// With nodes that stay known, as in the kernel's caches; with none; and with chunks in memory.
    pub(crate) const MODES: [&str; 3] = ["", "forgetful", "memory"];
    /// No kernel adds requests to the calls.
    pub(crate) const IN_PROCESS: bool = true;
    /// Options of the model test: its subject is the upper, so the lower's chunks stay decoded.
    pub(crate) const MODEL_OPTIONS: &str = "memory";
    /// Cases of the model test.
    pub(crate) const MODEL_CASES: usize = 60;
    /// Nodes that are cached.
    const REMEMBERED: usize = 1024;

    /// A directory with everything of one test in it.
    pub(crate) struct Room {
        directory: Scratch,
    }

    impl Room {
        pub(crate) fn new() -> Room {
            Room {
                directory: in_memory().unwrap_or_else(Scratch::new),
            }
        }

        pub(crate) fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        pub(crate) fn dir(&self, name: &str) -> PathBuf {
            let path = self.path(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        }
    }

    impl Drop for Room {
        fn drop(&mut self) {
            open_up(self.directory.path());
        }
    }

    /// A new directory in memory, if its file system has attributes of users (Linux 6.6).
    fn in_memory() -> Option<Scratch> {
        let directory = Scratch::within(Path::new("/dev/shm")).ok()?;
        let flags = rustix::fs::XattrFlags::empty();
        let set = rustix::fs::setxattr(directory.path(), "user.test", b"1", flags);
        rustix::fs::removexattr(directory.path(), "user.test").ok()?;
        set.is_ok().then_some(directory)
    }

    /// Directories that an ordinary user shut cannot be removed.
    fn open_up(path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        if path.symlink_metadata().is_ok_and(|about| about.is_dir()) {
            let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                open_up(&entry.path());
            }
        }
    }

    /// The file systems of today have attributes of users.
    pub(crate) fn attribute_name(user: &'static str, _other: &'static str) -> &'static str {
        user
    }

    /// Needs a mount.
    pub(crate) fn overlayfs(
        _room: &Room,
        _lower: &Path,
        _upper: &Path,
        _work: &Path,
    ) -> Option<Box<dyn Attached>> {
        None
    }

    pub(crate) fn begin(_room: &Room, parts: Parts) -> Result<Box<dyn Attached>, String> {
        log::start();
        let remembered = match parts.options.contains("forgetful") {
            true => 0,
            false => REMEMBERED,
        };
        Ok(Box::new(Direct::begin(parts, remembered, log::lines)?))
    }
}
