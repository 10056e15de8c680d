//! A separate bakery for each test: store, keys, spool, and the real programs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bakery::history::{History, Revision};
use bakery::keys::Keys;
use bakery::publish::{Import, Publisher};
use bakery::store::Store;
use wire::manifest::{ProfileName, RevisionName};

pub(crate) use crate::harness::programs::program;
use crate::scratch::Scratch;

/// A store with the systems `kiosk` and `lab`, and a spool.
pub(crate) struct TestBakery {
    directory: Scratch,
    /// The offset of the clock of started programs, in the form of `faketime`.
    clock: Option<&'static str>,
}

impl TestBakery {
    pub(crate) fn new() -> Self {
        let bakery = Self {
            directory: Scratch::new(),
            clock: None,
        };
        bakery.fill(&bakery.store());
        bakery
    }

    /// Makes a store at `store` with the two systems.
    pub(crate) fn fill(&self, store: &Path) {
        let store = store.to_str().unwrap();
        let tree = self.path("tree");
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::create_dir_all(tree.join("usr/share")).unwrap();
        fs::write(tree.join("etc/motd"), "base\n").unwrap();
        fs::write(tree.join("etc/gone"), "to be deleted\n").unwrap();
        fs::write(tree.join("usr/share/words"), "word ".repeat(50_000)).unwrap();
        let layer = self.path("base.layer");
        run(Command::new(program("bakery"))
            .arg("bake")
            .arg(&tree)
            .arg("-o")
            .arg(&layer));
        let opened = Store::create(store).unwrap();
        let keys = Keys::locate(None, store).unwrap();
        keys.create().unwrap();
        bakery::keys::first(&opened, &keys.root(None).unwrap(), &keys.head().unwrap()).unwrap();
        let publisher = Publisher::open(opened, &keys).unwrap();
        let initrd = self.path("initrd");
        fs::write(&initrd, initramfs()).unwrap();
        for system in ["kiosk", "lab"] {
            let import = Import {
                name: system.parse().unwrap(),
                layers: std::slice::from_ref(&layer),
                kernel: Some(Path::new("/etc/hostname")),
                initrd: Some(&initrd),
                cmdline: "quiet".into(),
                author: "test".into(),
                message: "the base".into(),
                predict: bakery::publish::Prediction::No,
            };
            publisher.import(&import).unwrap();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.path("spool")
    }

    /// Whatever is started from now on sees the time of day so far off.
    pub(crate) fn set_clock(&mut self, offset: &'static str) {
        self.clock = Some(offset);
    }

    /// The server's program on this store.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(program("bakery"));
        if let Some(offset) = self.clock {
            // Only the time of day is shifted, not the monotonic clock or times of file systems.
            command = Command::new("faketime");
            command
                .args(["-f", offset])
                .arg(program("bakery"))
                .envs([("DONT_FAKE_MONOTONIC", "1"), ("NO_FAKE_STAT", "1")]);
        }
        command
            .arg("--store")
            .arg(self.store())
            .env("BAKERY_SPOOL", self.spool());
        command
    }

    /// Starts `bakery watch`, quick to settle; ends with the value.
    pub(crate) fn watch(&self, more: &[&str]) -> Running {
        let mut command = self.command();
        command
            .args(["watch", "--settle", "100", "--rescan", "1"])
            .args(more);
        Running::start(&mut command)
    }

    /// Bakes and publishes everything in the spool; returns the watcher's output.
    pub(crate) fn drain_and_listen(&self) -> String {
        let mut watch = self.command();
        watch.args(["watch", "--settle", "50", "--rescan", "1", "--once"]);
        text(&run(&mut watch).stderr)
    }

    /// Bakes and publishes whatever is in the spool.
    pub(crate) fn drain(&self) {
        let done = self
            .command()
            .args(["watch", "--settle", "50", "--rescan", "1", "--once"])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
    }

    pub(crate) fn history(&self) -> History {
        let store = self.store();
        let keys = Keys::locate(None, store.to_str().unwrap()).unwrap();
        History::open(
            Store::open(store.to_str().unwrap()).unwrap(),
            keys.anchors().unwrap(),
        )
        .unwrap()
    }

    /// Every revision of a profile after the first, oldest first, its signature and chain checked.
    pub(crate) fn revisions(&self, name: &str) -> Vec<Revision> {
        let history = self.history();
        let name: ProfileName = name.parse().unwrap();
        let newest = history.newest(&name).unwrap().unwrap_or(0);
        (2..=newest)
            .map(|number| {
                let wanted = RevisionName {
                    name: name.clone(),
                    revision: Some(number),
                };
                history.revision(&wanted).unwrap()
            })
            .collect()
    }

    /// The content of a file in the newest revision; `None` if it is not there.
    pub(crate) fn file(&self, name: &str, path: &str) -> Option<Vec<u8>> {
        let history = self.history();
        let head = history.head(&name.parse().unwrap()).unwrap().unwrap();
        let merged = history.merged(&head.manifest).unwrap();
        let layers = history.layers(&head.manifest).unwrap();
        let mut at = layerfmt::ROOT;
        for part in path.split('/') {
            match merged.index.lookup(at, part.as_bytes())?.child {
                layerfmt::DirentTarget::Inode(ino) => at = ino,
                layerfmt::DirentTarget::Whiteout => return None,
            }
        }
        let size = usize::try_from(merged.index.inode(at)?.size).unwrap();
        let mut content = vec![0; size];
        let mut reader = layerfmt::ContentReader::new(&merged.index, &layers);
        let extents: Vec<_> = merged.index.extents(at, 0..size as u64).collect();
        for extent in extents {
            let bytes = reader.extent(&extent).unwrap();
            let start = usize::try_from(extent.file_offset).unwrap();
            content[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Some(content)
    }

    /// The records of all jobs, from `bakery jobs --json`.
    pub(crate) fn jobs(&self) -> Vec<serde_json::Value> {
        let output = run(self.command().args(["--json", "jobs"]));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// `bakery verify --all` reports that every byte of the store is correct.
    pub(crate) fn assert_sound(&self) {
        run(self.command().args(["verify", "--all"]));
    }

    /// Sends an upload through the real `bakery receive`, as sshd would start it. `None` when it
    /// was not acknowledged.
    pub(crate) fn receive(&self, target: &str, opening: &str, body: &[u8]) -> Option<String> {
        let mut child = self
            .command()
            .args(["receive", "--key", "test", "--systems", "*"])
            .env("SSH_ORIGINAL_COMMAND", format!("layerfs-push {target}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut sent = format!("{opening}\n").into_bytes();
        for frame in body.chunks(1 << 16) {
            sent.extend(u32::try_from(frame.len()).unwrap().to_le_bytes());
            sent.extend(frame);
        }
        sent.extend([0; 4]);
        sent.extend((body.len() as u64).to_le_bytes());
        sent.extend(blake3::hash(body).as_bytes());
        let _ = child.stdin.take().unwrap().write_all(&sent);
        let mut answer = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut answer)
            .unwrap();
        child.wait().unwrap();
        let last: serde_json::Value = serde_json::from_str(answer.lines().last()?).unwrap();
        Some(last.get("job")?.as_str()?.to_owned())
    }
}

/// A program that runs until the value is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self {
            child: command
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        }
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM; returns true if it ended successfully within ten seconds.
    pub(crate) fn terminate(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        wait_until(Duration::from_secs(10), || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn wait_until(most: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < most, "not within {most:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An initramfs with the client in it, as far as a server looks at it.
pub(crate) fn initramfs() -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, mode) in [("bin/layerfs", 0o100_755), ("TRAILER!!!", 0)] {
        let numbers = [1, mode, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() + 1, 0];
        archive.extend(b"070701");
        for number in numbers {
            archive.extend(format!("{number:08x}").bytes());
        }
        archive.extend(name.bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

/// A compressed upload that sets `etc/<name>` to `content`.
pub(crate) fn upload(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for directory in ["./", "etc/"] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        header.set_mtime(1_700_000_000);
        archive
            .append_data(&mut header, directory, std::io::empty())
            .unwrap();
    }
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_mtime(1_700_000_000);
    archive
        .append_data(&mut header, format!("etc/{name}"), content)
        .unwrap();
    zstd::encode_all(&archive.into_inner().unwrap()[..], 1).unwrap()
}
