//! A mount of a server's system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;

pub(super) use crate::harness::programs::program;

pub(super) struct Client {
    pub(super) at: PathBuf,
    daemon: Child,
    _place: crate::scratch::Scratch,
}

impl Client {
    /// Mounts `url` with these arguments and waits until it is up.
    pub(super) fn mount(url: &str, keys: &Path, arguments: &[&str]) -> Client {
        Client::attempt(url, keys, arguments).unwrap_or_else(|said| panic!("no mount: {said}"))
    }

    /// The mount, or the output of the failed program.
    pub(super) fn attempt(url: &str, keys: &Path, arguments: &[&str]) -> Result<Client, String> {
        let mut client = Client::start(url, keys, arguments);
        let log = client.at.with_file_name("log");
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(120) {
            if let Some(status) = client.daemon.try_wait().unwrap() {
                return Err(format!(
                    "{status}: {}",
                    std::fs::read_to_string(&log).unwrap()
                ));
            }
            if is_mounted(&client.at) {
                return Ok(client);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = client.daemon.kill();
        let _ = client.daemon.wait();
        Err(format!(
            "not mounted within 120 s: {}",
            std::fs::read_to_string(&log).unwrap()
        ))
    }

    /// Starts a mount and does not wait for it.
    pub(super) fn start(url: &str, keys: &Path, arguments: &[&str]) -> Client {
        let place = crate::scratch::Scratch::new();
        let at = place.path().join("mnt");
        std::fs::create_dir(&at).unwrap();
        let log = place.path().join("log");
        let mut command = Command::new(program("layerfs"));
        command
            .args(["mount", "--foreground", "--keys"])
            .arg(keys)
            .args(arguments);
        command.arg(url).arg(&at).env("LAYERFS_LOG", "info");
        command
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap());
        Client {
            at,
            daemon: command.spawn().unwrap(),
            _place: place,
        }
    }

    /// Ends the daemon by SIGKILL, and removes the mount.
    pub(super) fn kill(mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    /// Unmounts, and waits until the daemon has ended: then its cache is on the disk.
    pub(super) fn end(mut self) {
        let _ = rustix::mount::unmount(&self.at, UnmountFlags::DETACH);
        let since = Instant::now();
        while !self.has_ended() {
            let is_soon = since.elapsed() < Duration::from_secs(120);
            assert!(
                is_soon,
                "it lives on: is the mount in another mount namespace?"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// True if the daemon has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        self.daemon.try_wait().unwrap().is_some()
    }

    /// The daemon's process.
    pub(super) fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Waits until the daemon has ended by itself; returns its output.
    pub(super) fn last_words(&mut self) -> String {
        let since = Instant::now();
        while self.daemon.try_wait().unwrap().is_none() {
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "the daemon lives on"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::read_to_string(self.at.with_file_name("log")).unwrap()
    }

    /// Every file has exactly these bytes, and there are no other files.
    pub(super) fn compare(&self, files: &BTreeMap<String, Vec<u8>>) {
        let mut names: Vec<String> = std::fs::read_dir(&self.at)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert!(names.iter().eq(files.keys()), "other names: {names:?}");
        for (name, wanted) in files {
            let found = std::fs::read(self.at.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(found == *wanted, "{name} differs");
        }
    }

    /// The network part of `layerfs status`.
    pub(super) fn status(&self) -> serde_json::Value {
        self.whole_status()["source"].clone()
    }

    /// The whole `layerfs status`.
    pub(super) fn whole_status(&self) -> serde_json::Value {
        let output = Command::new(program("layerfs"))
            .args(["status", "--json"])
            .arg(&self.at)
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(super) fn number(&self, field: &str) -> u64 {
        self.status()[field]
            .as_u64()
            .unwrap_or_else(|| panic!("no number {field}"))
    }

    /// Waits until a word of the status begins with `text`.
    pub(super) fn wait_for(&self, field: &str, text: &str) {
        let since = Instant::now();
        loop {
            let status = self.status();
            if status[field]
                .as_str()
                .is_some_and(|word| word.starts_with(text))
            {
                return;
            }
            assert!(
                since.elapsed() < Duration::from_secs(180),
                "{field} does not become {text}: {status}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(super) fn run(&self, verb: &str) -> std::process::Output {
        self.run_with(verb, &[])
    }

    pub(super) fn run_with(&self, verb: &str, arguments: &[&str]) -> std::process::Output {
        Command::new(program("layerfs"))
            .args(verb.split(' '))
            .args(arguments)
            .arg(&self.at)
            .output()
            .unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.at, UnmountFlags::DETACH);
        for _ in 0..100 {
            if self.daemon.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// The files below a directory, such as the chunks of a cache, in order.
pub(super) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_mounted(at: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == at.to_str())
}
