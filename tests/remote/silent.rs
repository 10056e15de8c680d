//! A server that stops answering, and processes that do not need it. It is stopped (SIGSTOP), so
//! that connections stay open without data.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Error, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, FallocateFlags};

use super::client::{Client, program};
use super::server::Bakery;
use super::site::{SYSTEM, Site};

/// Ways to need bytes of a file of the lower.
const WAYS: [&str; 7] = [
    "append",
    "read",
    "truncate",
    "direct",
    "fallocate",
    "copy",
    "open",
];
/// Files for waiting processes.
const FILES: usize = 500;
/// A program and a file that are read before the server stops.
const PROGRAM: &str = "program";
const WARM: &str = "warm";

fn name(number: usize) -> String {
    format!("many{number:03}")
}

fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<String, Vec<u8>> = (0..FILES)
        .map(|number| {
            let text = format!("{number} wanted ").repeat(300 + number);
            (name(number), text.into_bytes())
        })
        .collect();
    files.insert(WARM.into(), (0..=255).cycle().take(300_000).collect());
    files.insert(PROGRAM.into(), std::fs::read("/bin/true").unwrap());
    files
}

/// Does the thing to `path`; `other` is a file whose bytes are here.
fn perform(way: &str, path: &Path, other: &Path) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    match way {
        "append" => options.append(true).open(path)?.write_all(b"z"),
        "read" => File::open(path)?.read_to_end(&mut Vec::new()).map(drop),
        "truncate" => options.write(true).open(path)?.set_len(1000),
        "direct" => {
            let file = options.read(true).custom_flags(libc::O_DIRECT).open(path)?;
            file.read_exact_at(&mut [0; 1024], 0)
        }
        "fallocate" => {
            let file = options.write(true).open(path)?;
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 20_000)?;
            Ok(())
        }
        "copy" => {
            let file = options.write(true).open(path)?;
            let other = File::open(other)?;
            rustix::fs::copy_file_range(&other, None, &file, Some(&mut 10), 5)?;
            Ok(())
        }
        // Copies with `passthrough` only.
        "open" => {
            let file = options.read(true).write(true).open(path)?;
            file.read_exact_at(&mut [0; 16], 0)
        }
        _ => panic!("{way}"),
    }
}

/// The content of a file with these bytes after `perform`.
fn expected(way: &str, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
    match way {
        "append" => bytes.push(b'z'),
        "truncate" => bytes.truncate(1000),
        "fallocate" if bytes.len() < 20_000 => bytes.resize(20_000, 0),
        "copy" => bytes[10..15].copy_from_slice(&other[..5]),
        _ => {}
    }
    bytes
}

struct Scene {
    site: Site,
    server: Bakery,
}

struct Mounted {
    client: Client,
    upper: PathBuf,
    _place: crate::scratch::Scratch,
}

impl Scene {
    fn new() -> Scene {
        let site = Site::with(files());
        let server = Bakery::serve(&site);
        Scene { site, server }
    }

    fn mount(&self, mode: &str, arguments: &[&str]) -> Mounted {
        let place = crate::scratch::Scratch::new();
        for name in ["upper", "work"] {
            std::fs::create_dir(place.path().join(name)).unwrap();
        }
        let at = place.path().display();
        let options = format!("upperdir={at}/upper,workdir={at}/work{mode}");
        let mut all = vec!["--prefetch", "none", "-o", &options];
        all.extend(arguments);
        let url = format!("{}/{SYSTEM}", self.server.url());
        let client = Client::mount(&url, &self.site.allowed_signers(), &all);
        let upper = place.path().join("upper");
        let mounted = Mounted {
            client,
            upper,
            _place: place,
        };
        mounted.warm_up();
        mounted
    }
}

impl Mounted {
    fn path(&self, name: &str) -> PathBuf {
        self.client.at.join(name)
    }

    /// Names and attributes are known, and the bytes of two files are here.
    fn warm_up(&self) {
        for entry in std::fs::read_dir(&self.client.at).unwrap() {
            entry.unwrap().metadata().unwrap();
        }
        std::fs::read(self.path(WARM)).unwrap();
        let program = self.path(PROGRAM);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new(&program).status().unwrap().success());
    }

    fn waiting(&self) -> u64 {
        self.client.whole_status()["waiting_requests"]
            .as_u64()
            .unwrap()
    }

    fn wait_until_waiting(&self, enough: impl Fn(u64) -> bool) {
        let since = Instant::now();
        while !enough(self.waiting()) {
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "{} requests wait",
                self.waiting()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that needs no byte from afar is done.
    fn goes_on(&self, round: usize) {
        let (at, new) = (self.client.at.clone(), self.path(&format!("new{round}")));
        let (warm, program) = (self.path(WARM), self.path(PROGRAM));
        in_time("stat", {
            let at = at.clone();
            move || std::fs::metadata(at.join(name(1))).map(drop)
        });
        in_time("ls", move || {
            let found = std::fs::read_dir(at)?.count();
            assert!(found >= FILES, "{found}");
            Ok(())
        });
        in_time("create, write, fsync, rename, unlink", move || {
            let mut file = File::create(&new)?;
            file.write_all(&[7; 100_000])?;
            file.sync_all()?;
            let moved = new.with_extension("moved");
            std::fs::rename(&new, &moved)?;
            std::fs::remove_file(moved)
        });
        in_time("a read of what is here", move || {
            let file = File::open(&warm)?;
            // Not from the kernel's cache.
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
            let bytes = std::fs::read(&warm)?;
            assert_eq!(bytes, files()[WARM]);
            Ok(())
        });
        in_time("a program", move || {
            rustix::fs::fadvise(&File::open(&program)?, 0, None, Advice::DontNeed)?;
            assert!(Command::new(&program).status()?.success());
            Ok(())
        });
    }

    /// The objects of the upper: name, length, blocks, time.
    fn upper(&self) -> Vec<(PathBuf, u64, u64, i64)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.upper).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            found.push((entry.path(), meta.len(), meta.blocks(), meta.mtime()));
        }
        found.sort();
        found
    }
}

/// Runs `work` in a separate thread, which ends.
fn in_time(what: &str, work: impl FnOnce() -> Result<(), Error> + Send + 'static) {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(work()));
    match receiver.recv_timeout(Duration::from_secs(30)) {
        Ok(done) => done.unwrap_or_else(|error| panic!("{what}: {error}")),
        Err(_) => panic!("{what} does not end"),
    }
}

fn everything_else_goes_on(mode: &str, counts: &[usize]) {
    let scene = Scene::new();
    for (round, &count) in counts.iter().enumerate() {
        let mounted = scene.mount(mode, &[]);
        let stopped = scene.server.stop();
        let waiters: Vec<_> = (0..count)
            .map(|number| {
                let (path, other) = (mounted.path(&name(number)), mounted.path(WARM));
                std::thread::spawn(move || perform(WAYS[number % WAYS.len()], &path, &other))
            })
            .collect();
        mounted.wait_until_waiting(|waiting| waiting >= count as u64);
        mounted.goes_on(round);
        assert!(
            waiters.iter().all(|waiter| !waiter.is_finished()),
            "{count}"
        );
        drop(stopped);
        for (number, waiter) in waiters.into_iter().enumerate() {
            let done = waiter.join().unwrap();
            assert!(
                done.is_ok(),
                "{} of {count}: {done:?}",
                WAYS[number % WAYS.len()]
            );
        }
        mounted.wait_until_waiting(|waiting| waiting == 0);
        let files = files();
        for number in 0..FILES {
            let wanted = files[&name(number)].clone();
            let wanted = match number < count {
                true => expected(WAYS[number % WAYS.len()], wanted, &files[WARM]),
                false => wanted,
            };
            let found = std::fs::read(mounted.path(&name(number))).unwrap();
            assert!(found == wanted, "{} of {count} differs", name(number));
        }
    }
}

/// S18.1 "A request that waits for bytes of a server blocks no request that can be answered."
#[test]
fn s18_1_everything_else_goes_on_while_any_number_wait() {
    everything_else_goes_on("", &[1, 2, 16, 17, 64, 500]);
}

#[test]
fn s18_1_everything_else_goes_on_with_passthrough() {
    everything_else_goes_on(",passthrough", &[2, 17, 500]);
}

/// Work on the upper does not stop with the server.
#[test]
fn s18_1_a_load_on_the_upper_goes_on() {
    let scene = Scene::new();
    let mounted = scene.mount("", &[]);
    let (done, over) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let load = {
        let (done, over, path) = (
            Arc::clone(&done),
            Arc::clone(&over),
            mounted.path("journal"),
        );
        std::thread::spawn(move || {
            let mut file = File::create(path).unwrap();
            while !over.load(Ordering::Relaxed) {
                file.write_all(&[1; 8192]).unwrap();
                file.sync_data().unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let stopped = scene.server.stop();
    let waiters: Vec<_> = (0..40)
        .map(|number| {
            let (path, other) = (mounted.path(&name(number)), mounted.path(WARM));
            std::thread::spawn(move || perform(WAYS[number % WAYS.len()], &path, &other))
        })
        .collect();
    mounted.wait_until_waiting(|waiting| waiting >= 40);
    let (before, since) = (done.load(Ordering::Relaxed), Instant::now());
    while done.load(Ordering::Relaxed) < before + 20 {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "the load stands still"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(stopped);
    for waiter in waiters {
        waiter.join().unwrap().unwrap();
    }
    over.store(true, Ordering::Relaxed);
    load.join().unwrap();
}

/// Not a test: the process that [`s18_3_a_kill_ends_every_waiter_and_nothing_is_changed`] kills.
#[test]
#[ignore = "a waiter for another test"]
fn waits_in_a_process_of_its_own() {
    let Ok(way) = std::env::var("LAYERFS_TEST_WAY") else {
        return;
    };
    let path = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let _ = perform(
        &way,
        &path("LAYERFS_TEST_PATH"),
        &path("LAYERFS_TEST_OTHER"),
    );
}

/// A program that SIGINT ends, even if these tests run in the background of a script, which ignores
/// SIGINT.
fn interruptible(program: PathBuf) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(program);
    command
}

fn waiting_process(way: &str, path: &Path, other: &Path) -> Child {
    interruptible(std::env::current_exe().unwrap())
        .args(["--exact", "remote::silent::waits_in_a_process_of_its_own"])
        .arg("--ignored")
        .env("LAYERFS_TEST_WAY", way)
        .env("LAYERFS_TEST_PATH", path)
        .env("LAYERFS_TEST_OTHER", other)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// S18.3 "A deadly signal ends the wait within a second. The call is not carried out, and the upper
/// is unchanged."
#[test]
fn s18_3_a_kill_ends_every_waiter_and_nothing_is_changed() {
    let scene = Scene::new();
    for mode in ["", ",passthrough"] {
        let mounted = scene.mount(mode, &[]);
        let before = mounted.upper();
        let stopped = scene.server.stop();
        for signal in [rustix::process::Signal::KILL, rustix::process::Signal::INT] {
            let mut waiters: Vec<Child> = WAYS
                .iter()
                .enumerate()
                .map(|(number, way)| {
                    waiting_process(way, &mounted.path(&name(number)), &mounted.path(WARM))
                })
                .collect();
            mounted.wait_until_waiting(|waiting| waiting >= WAYS.len() as u64);
            for waiter in &waiters {
                let pid = rustix::process::Pid::from_child(waiter);
                rustix::process::kill_process(pid, signal).unwrap();
            }
            let since = Instant::now();
            for (waiter, way) in waiters.iter_mut().zip(WAYS) {
                while waiter.try_wait().unwrap().is_none() {
                    assert!(since.elapsed() < Duration::from_secs(20), "{way} {mode}");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            mounted.wait_until_waiting(|waiting| waiting == 0);
            assert_eq!(mounted.upper(), before, "{mode}");
        }
        drop(stopped);
        for (name, wanted) in &files() {
            let found = std::fs::read(mounted.path(name)).unwrap();
            assert!(found == *wanted, "{name} differs");
        }
        assert_eq!(mounted.upper(), before, "{mode}: something was done later");
    }
}

/// S18.4 "Truncation to zero, removal and replacement of a file do not wait", even while a request waits for a page of it.
#[test]
fn s18_4_truncating_to_nothing_and_removing_wait_for_nobody() {
    let scene = Scene::new();
    for mode in ["", ",passthrough"] {
        let mounted = scene.mount(mode, &[]);
        let stopped = scene.server.stop();
        let paths = [mounted.path(&name(7)), mounted.path(&name(8))];
        let (wanted, other) = (paths.clone(), mounted.path(WARM));
        // A process that changes the file holds the kernel's lock on it.
        let waiters: Vec<_> = ["read", "direct"]
            .into_iter()
            .flat_map(|way| wanted.clone().map(|path| (way, path)))
            .map(|(way, path)| {
                let other = other.clone();
                std::thread::spawn(move || drop(perform(way, &path, &other)))
            })
            .collect();
        mounted.wait_until_waiting(|waiting| waiting >= 4);
        let [truncated, replaced] = paths;
        // With `passthrough` an open for writing copies all data, but not one with O_TRUNC.
        for text in [&b""[..], b"x"] {
            let path = truncated.clone();
            in_time("truncate and write", move || std::fs::write(path, text));
        }
        in_time("rename over it", {
            let (new, over) = (mounted.path("new"), replaced.clone());
            move || {
                std::fs::write(&new, b"y")?;
                std::fs::rename(new, over)
            }
        });
        assert_eq!(std::fs::read(&replaced).unwrap(), b"y");
        drop(stopped);
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(std::fs::read(&truncated).unwrap(), b"x", "{mode}");
    }
}

/// A file that is too large to collect its data in memory.
#[test]
fn s18_5_a_long_copy_up_goes_on_where_it_was_and_leaves_nothing_when_it_is_killed() {
    let mut files = files();
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    });
    let long: Vec<u8> = noise.take(2_500_000).flatten().collect();
    files.insert("long".into(), long.clone());
    let site = Site::with(files);
    let scene = Scene {
        server: Bakery::serve(&site),
        site,
    };
    let mounted = scene.mount(",cache-memory=1M", &[]);
    let before = mounted.upper();
    let stopped = scene.server.stop();
    let mut killed = waiting_process("append", &mounted.path("long"), &mounted.path(WARM));
    mounted.wait_until_waiting(|waiting| waiting >= 1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    mounted.wait_until_waiting(|waiting| waiting == 0);
    assert_eq!(mounted.upper(), before);
    let path = mounted.path("long");
    let waiter = std::thread::spawn(move || perform("append", &path, Path::new("/")));
    mounted.wait_until_waiting(|waiting| waiting >= 1);
    drop(stopped);
    waiter.join().unwrap().unwrap();
    let found = std::fs::read(mounted.path("long")).unwrap();
    assert!(found[..long.len()] == long && found[long.len()..] == *b"z");
    let work = mounted.upper.with_file_name("work").join("work");
    assert_eq!(std::fs::read_dir(work).unwrap().count(), 0);
}

/// "`--timeout N`: EIO after N seconds", not after as many again for the kernel's second question.
#[test]
fn s18_6_a_timeout_is_as_long_as_it_says() {
    const SECONDS: u64 = 8;
    let scene = Scene::new();
    let mounted = scene.mount("", &["--timeout", "8"]);
    let stopped = scene.server.stop();
    for way in ["read", "append"] {
        let since = Instant::now();
        let error = perform(way, &mounted.path(&name(3)), &mounted.path(WARM)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{way}");
        let waited = since.elapsed();
        assert!(
            waited < Duration::from_secs(2 * SECONDS - 1),
            "{way}: {waited:?}"
        );
    }
    drop(stopped);
}

/// The kernel's limits, put back when this is dropped.
struct Sysctl(&'static str, String);

impl Sysctl {
    fn set(path: &'static str, value: &str) -> Option<Sysctl> {
        let before = std::fs::read_to_string(path).ok()?;
        std::fs::write(path, value).ok()?;
        Some(Sysctl(path, before))
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        std::fs::write(self.0, &self.1).unwrap();
    }
}

/// S18.7 "With a request timeout of the kernel a waiting request gets EIO", and the mount stays.
#[test]
fn s18_7_a_request_timeout_of_the_kernel_does_not_end_the_mount() {
    let scene = Scene::new();
    let limit = Sysctl::set("/proc/sys/fs/fuse/default_request_timeout", "15");
    let Some(limit) = limit else {
        eprintln!("this kernel has no request time-outs");
        return;
    };
    let mounted = scene.mount("", &[]);
    drop(limit);
    let status = mounted.client.whole_status();
    assert_eq!(status["request_timeout_s"], 15, "{status}");
    let before = mounted.upper();
    let stopped = scene.server.stop();
    let waiters = ["read", "append", "direct"].map(|way| {
        let (path, other) = (mounted.path(&name(5)), mounted.path(WARM));
        std::thread::spawn(move || perform(way, &path, &other))
    });
    for waiter in waiters {
        let error = waiter.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }
    // Longer than the kernel waits.
    std::thread::sleep(Duration::from_secs(8));
    drop(stopped);
    assert_eq!(mounted.upper(), before);
    let found = std::fs::read(mounted.path(&name(5))).unwrap();
    assert!(found == files()[&name(5)]);
}

/// The log line about a mount that the kernel has aborted.
const ENDED: &str = "the kernel has ended the connection of ";

/// A connection that is ended by hand (`/sys/fs/fuse/connections/N/abort`).
#[test]
fn s18_7_an_abort_is_an_abort_in_the_log() {
    let scene = Scene::new();
    let mut mounted = scene.mount("", &[]);
    let control = crate::scratch::Scratch::new();
    let nothing = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", control.path(), "fusectl", nothing, None).unwrap();
    let device = std::fs::metadata(&mounted.client.at).unwrap().dev();
    let connection = rustix::fs::minor(device).to_string();
    let abort = control.path().join(connection).join("abort");
    let aborted = std::fs::write(abort, "1");
    rustix::mount::unmount(control.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    aborted.unwrap();
    let said = mounted.client.last_words();
    assert!(said.contains(ENDED), "{said}");
    let error = std::fs::metadata(mounted.path("anything")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
}

/// A connection that the kernel ends because the daemon did not answer for longer than its limit.
#[test]
#[ignore = "the kernel looks every 15 s: make test-outage"]
fn s18_7_a_daemon_that_is_late_finds_its_mount_ended_and_says_so() {
    let scene = Scene::new();
    let limit = Sysctl::set("/proc/sys/fs/fuse/default_request_timeout", "15");
    let Some(limit) = limit else {
        eprintln!("this kernel has no request time-outs");
        return;
    };
    let mut mounted = scene.mount("", &[]);
    drop(limit);
    let pid = i32::try_from(mounted.client.pid()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let new = mounted.path("new");
    let made = std::thread::spawn(move || File::create(new).map(drop));
    let error = made.join().unwrap().unwrap_err();
    let ends = [libc::ECONNABORTED, libc::ENOTCONN];
    assert!(ends.contains(&error.raw_os_error().unwrap()), "{error}");
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let said = mounted.client.last_words();
    assert!(said.contains(ENDED), "{said}");
    assert!(
        !mounted.upper.join("new").exists(),
        "carried out afterwards"
    );
}

/// S18.8 "If `layerfs mount` ends before the mount exists, its daemon ends too."
#[test]
fn s18_8_a_mount_that_is_given_up_never_comes() {
    let scene = Scene::new();
    let place = crate::scratch::Scratch::new();
    let stopped = scene.server.stop();
    for signal in [
        rustix::process::Signal::INT,
        rustix::process::Signal::TERM,
        rustix::process::Signal::KILL,
    ] {
        let mut mount = interruptible(program("layerfs"))
            .args(["mount", "--keys"])
            .arg(scene.site.allowed_signers())
            .arg(format!("{}/{SYSTEM}", scene.server.url()))
            .arg(place.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let daemon_of = || processes_with(place.path(), mount.id());
        wait_for("the daemon", || !daemon_of().is_empty());
        let pid = rustix::process::Pid::from_child(&mount);
        rustix::process::kill_process(pid, signal).unwrap();
        wait_for("the daemon's end", || daemon_of().is_empty());
        mount.wait().unwrap();
    }
    drop(stopped);
}

fn wait_for(what: &str, is: impl Fn() -> bool) {
    let since = Instant::now();
    while !is() {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "{what} does not come"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes that have `path` in their command line, but for `but`.
fn processes_with(path: &Path, but: u32) -> Vec<u32> {
    let path = path.to_str().unwrap().as_bytes();
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != but)
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(path.len()).any(|part| part == path)
        })
        .collect()
}
