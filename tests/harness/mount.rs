//! A layerfs mount for a test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::programs::{ends_after, program, run};
use crate::scratch::Scratch;

/// `user` names an extended attribute, unless the kernel's tmpfs has none of users (before Linux
/// 6.6): then `other` does.
pub(crate) fn attribute_name(user: &'static str, other: &'static str) -> &'static str {
    static HAS_USER: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let has_user = HAS_USER.get_or_init(|| {
        let bench = Bench::new();
        let nothing = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(bench.dir("probe"), "user.probe", b"", nothing).is_ok()
    });
    if *has_user { user } else { other }
}

/// A directory with everything of one test in it: a tmpfs, so that it is quick and holds
/// every attribute.
pub(crate) struct Bench {
    directory: Scratch,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let directory = Scratch::new();
        rustix::mount::mount(
            "bench",
            directory.path(),
            "tmpfs",
            MountFlags::empty(),
            c"mode=755",
        )
        .expect("a tmpfs (this test needs root)");
        Bench { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new directory.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("directory");
        path
    }
}

/// The options, and those that `LAYERFS_TEST_OPTIONS` gives every mount.
fn with_mode(options: String) -> String {
    match std::env::var("LAYERFS_TEST_OPTIONS") {
        Ok(more) => format!("{options},{more}"),
        Err(_) => options,
    }
}

/// A mount; unmounted when dropped.
pub(crate) struct Mount {
    pub(crate) at: PathBuf,
    options: String,
}

impl Mount {
    /// Mount layers (top first) with an upper, if any.
    pub(crate) fn layerfs(at: &Path, layers: &[&Path], upper: Option<(&Path, &Path)>) -> Mount {
        let layers: Vec<String> = layers.iter().map(|p| p.display().to_string()).collect();
        let mut options = format!("lowerdir={}", layers.join(":"));
        if let Some((upper, work)) = upper {
            options += &format!(",upperdir={},workdir={}", upper.display(), work.display());
        }
        Mount::with_options(at, options)
    }

    /// Mount with these options.
    ///
    /// `LAYERFS_TEST_OPTIONS=passthrough` adds to those of every mount.
    pub(crate) fn with_options(at: &Path, options: String) -> Mount {
        let mount = Mount {
            at: at.to_owned(),
            options: with_mode(options),
        };
        mount.attach();
        mount
    }

    /// Mounts as [`Mount::with_options`] does; a refusal is the error of the program.
    pub(crate) fn or_refusal(at: &Path, options: String) -> Result<Mount, String> {
        let options = with_mode(options);
        let output = Mount::attempt(at, &options);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(Mount {
            at: at.to_owned(),
            options,
        })
    }

    fn attach(&self) {
        run(Command::new(program("layerfs"))
            .args(["mount", "-o", &self.options])
            .arg(&self.at));
    }

    /// Tries to mount; returns the output of the program.
    pub(crate) fn attempt(at: &Path, options: &str) -> Output {
        Command::new(program("layerfs"))
            .args(["mount", "-o", options])
            .arg(at)
            .output()
            .expect("layerfs")
    }

    /// Unmount, wait for the daemon, mount again.
    pub(crate) fn again(&self) {
        self.detach();
        self.attach();
    }

    pub(crate) fn detach(&self) {
        let mut umount = Command::new(program("layerfs"));
        umount.arg("umount").arg(&self.at);
        // Another test's child may hold a descriptor of ours until it executes its program; and when a whole
        // machine stood still the time to wait for the daemon is over at once: the next mount waits for it.
        for _ in 0..50 {
            let output = umount.output().expect("layerfs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() || said.contains("still runs") {
                return;
            }
            assert!(said.contains("busy"), "umount: {said}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        run(&mut umount);
    }

    /// The status of the mount.
    pub(crate) fn status(&self) -> serde_json::Value {
        let output = run(Command::new(program("layerfs"))
            .args(["status", "--json"])
            .arg(&self.at));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The daemon's process number.
    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.status()["pid"].as_u64().expect("pid")).expect("pid")
    }

    /// `kill -9` the daemon and wait for its end.
    pub(crate) fn kill(&self) {
        let ends = ends_after(self.pid(), rustix::process::Signal::KILL, 30);
        assert!(ends, "the daemon does not die");
    }

    /// Mount again over whatever is there.
    pub(crate) fn recover(&self) {
        self.attach();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new(program("layerfs"))
            .arg("umount")
            .arg(&self.at)
            .output();
        let _ = rustix::mount::unmount(&self.at, UnmountFlags::DETACH);
    }
}

/// Kernel overlayfs; unmounted when dropped.
pub(crate) struct Overlay {
    pub(crate) at: PathBuf,
    options: std::ffi::CString,
}

impl Overlay {
    pub(crate) fn new(at: &Path, lower: &Path, upper: &Path, work: &Path) -> Overlay {
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=on,metacopy=on",
            lower.display(),
            upper.display(),
            work.display()
        );
        let overlay = Overlay {
            at: at.to_owned(),
            options: std::ffi::CString::new(options).expect("no NUL"),
        };
        overlay.attach();
        overlay
    }

    pub(crate) fn attach(&self) {
        rustix::mount::mount(
            "overlay",
            &self.at,
            "overlay",
            MountFlags::empty(),
            self.options.as_c_str(),
        )
        .expect("kernel overlayfs");
    }

    /// A child of another test has this process's descriptors, also of files in this mount, until it runs its
    /// program.
    pub(crate) fn detach(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match rustix::mount::unmount(&self.at, UnmountFlags::empty()) {
                Err(Errno::BUSY) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => return result.expect("umount"),
            }
        }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.at, UnmountFlags::DETACH);
    }
}
