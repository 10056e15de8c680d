//! A large system is mounted before its whole index is here.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use layerfmt::tree::{Kind, Metadata, Node, NodeId, ROOT, Time, Tree};
use layerfmt::writer::{Content, Effort, LayerWriter, Options};
use layerfmt::{Meta, Name};

use super::client::Client;
use super::faults::{Fault, FaultServer};
use super::site::{SYSTEM, Site};

const TOPS: u32 = 20;
const DIRS: u32 = 20;
const FILES: u32 = 250;
/// A directory that the early index lacks.
const FAR: &str = "top19/dir19";
/// Requests for the index file that bring the early index: the superblock and META.
const EARLY: u64 = 2;
const WAIT: Duration = Duration::from_secs(60);

/// A system of 100,000 files in 400 directories. Names and times do not compress, so that its index
/// is a long one.
fn large() -> Site {
    let mut site = Site::empty();
    let path = site.path("large.layer");
    let options = Options {
        effort: Effort::level(1),
        ..Options::bake()
    };
    let mut writer = LayerWriter::create(&path, options, None).unwrap();
    let file = |writer: &mut LayerWriter, text: &str| -> Content {
        let len = text.len() as u64;
        let all = [(0, len)];
        let segments = if len == 0 { &[][..] } else { &all[..] };
        writer
            .add_file(len, segments, &mut text.as_bytes())
            .unwrap()
    };
    let (empty, hello, deep) = (
        file(&mut writer, ""),
        file(&mut writer, "hello\n"),
        file(&mut writer, "deep\n"),
    );
    let mut tree = Tree::new(metadata(0o755, 1));
    let mut put = |parent: NodeId, name: &str, mode, time, kind| {
        let meta = metadata(mode, time);
        let name = Name::new(name.as_bytes()).unwrap();
        tree.insert(parent, name, Node { meta, kind }).unwrap()
    };
    put(ROOT, "hello", 0o644, 2, Kind::File(hello));
    for top in 0..TOPS {
        let top_dir = put(ROOT, &format!("top{top:02}"), 0o755, 3, directory());
        for dir in 0..DIRS {
            let dir_node = put(top_dir, &format!("dir{dir:02}"), 0o755, 4, directory());
            for number in 0..FILES {
                let hash = blake3::hash(format!("{top} {dir} {number}").as_bytes());
                let name = &hash.to_hex()[..16];
                let time = i64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap());
                let kind = Kind::File(empty.clone());
                put(dir_node, name, 0o644, (time >> 33).abs(), kind);
            }
            put(dir_node, "deep", 0o644, 5, Kind::File(deep.clone()));
        }
    }
    writer.finish(tree, &Meta::default()).unwrap();
    site.publish_layer(&path);
    site
}

fn directory() -> Kind<Content> {
    Kind::Directory(Default::default())
}

fn metadata(mode: u16, sec: i64) -> Metadata {
    Metadata {
        mode,
        mtime: Time { sec, nsec: 0 },
        ..Metadata::default()
    }
}

/// Number, mode, time and size of everything below `at`.
fn walk(at: &Path) -> BTreeMap<PathBuf, (u64, u32, i64, u64, u64)> {
    let mut found = BTreeMap::new();
    let mut open = vec![at.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                open.push(entry.path());
            }
            let about = (
                meta.ino(),
                meta.mode(),
                meta.mtime(),
                meta.size(),
                meta.nlink(),
            );
            let path = entry.path().strip_prefix(at).unwrap().to_path_buf();
            found.insert(path, about);
        }
    }
    found
}

fn mount(site: &Site, server: &FaultServer, arguments: &[&str]) -> Client {
    let url = format!("{}/{SYSTEM}", server.url());
    Client::mount(&url, &site.allowed_signers(), arguments)
}

fn is_whole(client: &Client) -> bool {
    client.status()["index_whole"].as_bool().unwrap()
}

/// Starts a program that reads `path` of the mount.
fn reader(client: &Client, path: &str) -> std::process::Child {
    let mut command = Command::new("cat");
    let command = command.arg(client.at.join(path)).stderr(Stdio::null());
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn until(what: &str, wanted: impl Fn() -> bool) {
    let since = Instant::now();
    while !wanted() {
        assert!(since.elapsed() < WAIT, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_large_system_is_used_before_its_whole_index_is_here() {
    let site = large();
    let server = FaultServer::start(site.store());

    // The whole index does not come: what is in the early one is there, the rest waits.
    server.fail_later(Fault::Hang, "/indexes", EARLY, u64::MAX);
    let client = mount(&site, &server, &["--prefetch", "none"]);
    let names = std::fs::read_dir(&client.at).unwrap().count();
    assert_eq!(names, TOPS as usize + 1);
    assert_eq!(std::fs::read(client.at.join("hello")).unwrap(), b"hello\n");
    assert_eq!(server.faults(), EARLY, "nothing needed the whole index");
    assert!(!is_whole(&client));
    let (sender, heard) = channel();
    for number in 0..40 {
        let (sender, at) = (sender.clone(), client.at.clone());
        std::thread::spawn(move || {
            let found = match number % 4 {
                0 => std::fs::read(at.join(FAR).join("deep")).map(|bytes| bytes.len() as u64),
                1 => std::fs::read_dir(at.join(FAR)).map(|dir| dir.count() as u64),
                2 => std::fs::metadata(at.join(FAR).join("deep")).map(|meta| meta.len()),
                _ => std::fs::symlink_metadata(at.join(FAR).join("none")).map(|_| 0),
            };
            sender
                .send((number % 4, found.map_err(|error| error.kind())))
                .unwrap();
        });
    }
    until("requests wait", || {
        client.whole_status()["waiting_requests"].as_u64() >= Some(2)
    });
    assert_eq!(
        std::fs::read_dir(client.at.join("top03")).unwrap().count(),
        DIRS as usize
    );
    assert_eq!(std::fs::read(client.at.join("hello")).unwrap(), b"hello\n");
    assert!(heard.try_recv().is_err(), "nothing was answered");
    // A process that waits can be killed.
    let mut killed = reader(&client, "top18/dir19/deep");
    std::thread::sleep(Duration::from_millis(300));
    assert!(killed.try_wait().unwrap().is_none());
    killed.kill().unwrap();
    killed.wait().unwrap();

    server.behave();
    for _ in 0..40 {
        let (way, found) = heard.recv_timeout(WAIT).unwrap();
        let wanted = match way {
            0 | 2 => Ok(5),
            1 => Ok(u64::from(FILES) + 1),
            _ => Err(std::io::ErrorKind::NotFound),
        };
        assert_eq!(found, wanted, "{way}");
    }
    assert!(is_whole(&client));
    let by_parts = walk(&client.at);
    assert_eq!(by_parts.len() as u32, TOPS * (1 + DIRS * (2 + FILES)) + 1);

    // A damaged early index is not used; the tree is the same.
    server.fail(Fault::Corrupt, "/indexes", 1);
    let whole = mount(&site, &server, &["--prefetch", "none"]);
    assert_eq!(server.faults(), 2, "superblock, then the whole");
    assert!(is_whole(&whole));
    assert_eq!(walk(&whole.at), by_parts, "also the numbers");
    whole.end();
    server.fail_later(Fault::Corrupt, "/indexes", 1, 1);
    let whole = mount(&site, &server, &["--prefetch", "none"]);
    assert!(is_whole(&whole));
    whole.end();

    // The server ends while the whole index is on its way. Unmounting does not wait for it.
    server.fail_later(Fault::ResetAfter(100_000), "/indexes", EARLY, u64::MAX);
    let away = mount(&site, &server, &[]);
    assert_eq!(std::fs::read_dir(&away.at).unwrap().count(), names);
    let mut waiting = reader(&away, &format!("{FAR}/deep"));
    until("the transfer is cut", || server.faults() > EARLY);
    let address = server.address;
    drop(server);
    std::thread::sleep(Duration::from_millis(500));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    assert_eq!(
        std::fs::read_dir(away.at.join("top01")).unwrap().count(),
        DIRS as usize
    );
    let mut other = reader(&away, &format!("{FAR}/deep"));
    let server = FaultServer::start_at(site.store(), address);
    let said = waiting.wait_with_output().unwrap();
    assert_eq!(said.stdout, b"deep\n");
    assert!(other.wait().unwrap().success());
    away.end();

    server.fail_later(Fault::Hang, "/indexes", EARLY, u64::MAX);
    let away = mount(&site, &server, &["--prefetch", "none"]);
    let mut waiting = reader(&away, &format!("{FAR}/deep"));
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    away.end();
    server.behave();

    // With an upper a change waits, because it may need any row; a cache holds the whole index.
    let (upper, work) = (site.path("upper"), site.path("work"));
    std::fs::create_dir_all(upper.join("old")).unwrap();
    std::fs::create_dir_all(&work).unwrap();
    let options = format!("upperdir={},workdir={}", upper.display(), work.display());
    let cache = site.path("cache");
    let with_upper = ["-o", &options, "--prefetch", "none", "--cache"];
    let arguments = [&with_upper[..], &[cache.to_str().unwrap()]].concat();
    server.fail_later(Fault::Hang, "/indexes", EARLY, u64::MAX);
    let client = mount(&site, &server, &arguments);
    assert_eq!(
        std::fs::read_dir(client.at.join("top01")).unwrap().count(),
        DIRS as usize
    );
    let (sender, heard) = channel();
    let at = client.at.clone();
    std::thread::spawn(move || {
        let written = std::fs::write(at.join("top00/new"), "new").map(drop);
        let written = written.and_then(|()| std::fs::write(at.join("hello"), "changed"));
        sender.send(written.map_err(|error| error.kind())).unwrap();
    });
    assert!(
        heard.recv_timeout(Duration::from_millis(500)).is_err(),
        "it waits"
    );
    assert!(!is_whole(&client));
    server.behave();
    assert_eq!(heard.recv_timeout(WAIT), Ok(Ok(())));
    assert_eq!(std::fs::read(client.at.join("hello")).unwrap(), b"changed");
    let changed = walk(&client.at);
    let number = |path: &str| changed[Path::new(path)].0;
    assert_eq!(
        number("hello"),
        by_parts[Path::new("hello")].0,
        "a copy keeps its number"
    );
    until("the cache has the index", || {
        super::client::files_below(&cache)
            .iter()
            .any(|path| path.to_string_lossy().contains("index-"))
    });
    client.end();
    server.fail(Fault::Status(503), "/indexes", u64::MAX);
    let client = mount(&site, &server, &arguments);
    assert!(is_whole(&client));
    assert_eq!(server.faults(), 0, "the index beside the cache");
    client.end();
}
