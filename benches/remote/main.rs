//! A recorded boot over shaped links: layerfs with and without its boot pack, against squashfs over
//! NBD under overlayfs, and against fetching the whole squashfs first.
//!
//! `BENCH_TREE=DIR cargo bench -p layerfs-benches --bench remote` (root; after `make build`). The
//! tree is that of `benches/traces/minimal.trace` (benches/trees/build.sh minimal DIR); without it,
//! a synthetic one of the trace's smaller files, which is enough for a test run.
//! `BENCH_SQUASHFS=FILE,FILE` are images of it for comparison; they need nbd-server and nbdfuse.
//! `BENCH_LINKS=20/20,100/50` names other links (Mbit/s and ms of round trip) than 20/20 and
//! 100/20. `BENCH_CLIENTS=20` adds that many concurrent clients on one 1 Gbit/s link.
//! `BENCH_BEFORE=DIR` replays with the `layerfs` of that directory too, in turn with the present one
//! (A B, B A, …), `BENCH_ROUNDS=5` times. One JSON line per run on standard output.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::print_stdout,
    reason = "a bench that cannot go on stops, and prints"
)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bakery::keys::{self, Keys};
use bakery::publish::pack::{Sources, publish};
use bakery::publish::{Import, Publisher};
use bakery::store::Store;
use layerfmt::{DirentTarget as Entry, Index, Ino, ROOT};
use layerfs_benches::mounted::{drop_caches, run};
use layerfs_benches::shaper::{Link, Shaper};
use layerfs_benches::trace::Trace;
use wire::manifest::ProfileName;
use wire::trace::{BootTrace, Touch};

const SYSTEM: &str = "minimal";

fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let found = here
        .ancestors()
        .skip(1)
        .take(3)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {name} beside {}: make build first", here.display()))
}

/// A process that ends with its value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn start(command: &mut Command, listens: SocketAddr) -> Running {
    let running = Running(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    for _ in 0..200 {
        if TcpStream::connect(listens).is_ok() {
            return running;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{command:?} does not listen");
}

/// The store: revision 1 is the tree, revision 2 the same with a pack of the trace.
struct Site {
    place: tempfile::TempDir,
    hot_len: u64,
    pack_len: u64,
    index_len: u64,
    index_packed_len: u64,
}

impl Site {
    fn new(tree: &Path, trace: &Trace) -> Site {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let layer = path("base.layer");
        run(Command::new(program("bakery"))
            .args(["-q", "bake", "-o"])
            .arg(&layer)
            .arg(tree))
        .unwrap();
        let location = path("store").to_str().unwrap().to_owned();
        let store = Store::create(&location).unwrap();
        let keys = Keys::locate(None, &location).unwrap();
        keys.create().unwrap();
        keys::first(&store, &keys.root(None).unwrap(), &keys.head().unwrap()).unwrap();
        let publisher = Publisher::open(store, &keys).unwrap();
        let name = ProfileName::new(SYSTEM, "main").unwrap();
        let import = Import {
            name: name.clone(),
            layers: std::slice::from_ref(&layer),
            kernel: None,
            initrd: None,
            cmdline: String::new(),
            author: "bench".into(),
            message: "the tree".into(),
            predict: bakery::publish::Prediction::No,
        };
        let revision = publisher.import(&import).unwrap();
        let merged = publisher.history().merged(&revision.manifest).unwrap();
        let boot = recorded(trace, &merged.index, revision.manifest.tree_digest);
        let file = path("boot.trace");
        std::fs::write(&file, boot.encode()).unwrap();
        let sources = Sources {
            spool: None,
            files: vec![file],
            share: 25,
            predict: false,
        };
        let report = publish(&publisher, &name, &sources, true).unwrap();
        let packed = publisher.history().require_head(&name).unwrap();
        Site {
            hot_len: report.hot_len,
            pack_len: report.pack.unwrap().len,
            index_len: revision.manifest.index.head_len,
            index_packed_len: packed.manifest.index.head_len,
            place,
        }
    }

    fn serve(&self) -> (Running, SocketAddr) {
        let address = free_port();
        let mut command = Command::new(program("bakery"));
        command
            .arg("--store")
            .arg(self.place.path().join("store"))
            .arg("serve");
        (
            start(command.arg("--listen").arg(address.to_string()), address),
            address,
        )
    }

    fn keys(&self) -> PathBuf {
        self.place.path().join("store.keys/allowed_signers")
    }
}

/// The trace with the rows of the baked tree.
fn recorded(trace: &Trace, index: &Index, tree: layerfmt::Digest) -> BootTrace {
    let rows: Vec<Option<Ino>> = trace
        .files
        .iter()
        .map(|(path, _)| row(index, path))
        .collect();
    let touches = trace.touches.iter().filter_map(|touch| {
        let ino = rows.get(touch.file).copied().flatten()?;
        let pages = index.inode(ino)?.size.div_ceil(4096);
        let count = (touch.page + touch.count)
            .min(pages)
            .checked_sub(touch.page)
            .filter(|count| *count > 0)?;
        Some(Touch {
            ino,
            page: u32::try_from(touch.page).ok()?,
            count: u32::try_from(count).ok()?,
        })
    });
    BootTrace {
        tree,
        touches: touches.collect(),
    }
}

fn row(index: &Index, path: &Path) -> Option<Ino> {
    use std::os::unix::ffi::OsStrExt;
    path.iter().try_fold(ROOT, |dir, name| {
        match index.lookup(dir, name.as_bytes())?.child {
            Entry::Inode(ino) => Some(ino),
            Entry::Whiteout => None,
        }
    })
}

/// A mount that ends with its value.
struct Mounted {
    at: PathBuf,
    /// Ended before: a daemon that serves it, or `layerfs initramfs warm`.
    _beside: Option<Running>,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for _ in 0..50 {
            if run(Command::new("umount").arg(&self.at).stderr(Stdio::null())).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn layerfs(client: &Path, site: &Site, url: &str, at: &Path, policy: &str) -> Mounted {
    std::fs::create_dir_all(at).unwrap();
    let mut command = Command::new(client);
    command
        .args(["mount", "--prefetch", policy, "--keys"])
        .arg(site.keys())
        .arg(url)
        .arg(at);
    run(&mut command).unwrap();
    Mounted {
        at: at.to_owned(),
        // As in the initramfs.
        _beside: (policy == "pack").then(|| warm(client, at)),
    }
}

fn warm(client: &Path, at: &Path) -> Running {
    let mut command = Command::new(client);
    let command = command
        .args(["initramfs", "warm"])
        .arg(at)
        .stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

fn requests(client: &Path, at: &Path) -> u64 {
    let output = Command::new(client)
        .args(["status", "--json"])
        .arg(at)
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    if std::env::var_os("BENCH_STATUS").is_some() {
        eprintln!("{}", status["source"]);
    }
    status["source"]["requests"].as_u64().unwrap()
}

fn say(what: &str, link: Link, seconds: f64, bytes: u64, requests: Option<u64>) {
    println!(
        "{}",
        serde_json::json!({
            "case": what, "mbit": link.rate, "rtt_ms": link.rtt.as_millis() as u64,
            "seconds": (seconds * 1000.0).round() / 1000.0, "bytes": bytes, "requests": requests,
        })
    );
}

/// One of the two builds whose replays are compared.
struct Build {
    client: PathBuf,
    name: &'static str,
}

impl Build {
    /// The present build, and the one of `BENCH_BEFORE`.
    fn all() -> Vec<Build> {
        let now = Build {
            client: program("layerfs"),
            name: "layerfs",
        };
        let before = std::env::var_os("BENCH_BEFORE").map(|directory| Build {
            client: PathBuf::from(directory).join("layerfs"),
            name: "layerfs before",
        });
        std::iter::once(now).chain(before).collect()
    }
}

fn ours(build: &Build, site: &Site, server: SocketAddr, trace: &Trace, link: Link, packed: bool) {
    let place = tempfile::tempdir().unwrap();
    let mut shaper = Shaper::new(link);
    let address = shaper.route(0, server).unwrap();
    let (revision, policy, what) = if packed {
        (2, "pack", "boot pack")
    } else {
        (1, "none", "no pack")
    };
    let client = &build.client;
    let url = format!("http://{address}/{SYSTEM}/main@{revision}");
    drop_caches().unwrap();
    let began = Instant::now();
    let mounted = layerfs(client, site, &url, &place.path().join("mnt"), policy);
    let read = trace.replay(&mounted.at).unwrap();
    let seconds = began.elapsed().as_secs_f64();
    assert!(read > 0, "the replay read nothing");
    let counts = shaper.counts();
    say(
        &format!("{}, {what}", build.name),
        link,
        seconds,
        counts.iter().map(|count| count.down).sum(),
        Some(requests(client, &mounted.at)),
    );
}

/// nbd-server, which always becomes a daemon; it ends with its value.
struct NbdServer(rustix::process::Pid);

impl NbdServer {
    fn start(image: &Path, listen: SocketAddr, pid_file: &Path) -> NbdServer {
        let mut command = Command::new("nbd-server");
        command.arg(format!("{listen}")).arg(image);
        command.args(["-r", "-C", "/dev/null", "-p"]).arg(pid_file);
        drop(start(command.stderr(Stdio::null()), listen));
        let pid = std::fs::read_to_string(pid_file).expect("its number");
        let pid = pid
            .trim()
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        NbdServer(pid.expect("a number"))
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::TERM);
    }
}

/// squashfs over NBD under overlayfs: nbd-server, and nbdfuse as the client if the kernel has none.
fn rival(image: &Path, trace: &Trace, link: Link) {
    let place = tempfile::tempdir().unwrap();
    let dir = |name: &str| {
        let path = place.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let listen = free_port();
    let _server = NbdServer::start(image, listen, &place.path().join("pid"));
    let mut shaper = Shaper::new(link);
    let address = shaper.route(0, listen).unwrap();
    drop_caches().unwrap();
    let began = Instant::now();
    let disk = dir("disk");
    let mut client = Command::new("nbdfuse");
    client
        .arg("-r")
        .arg(disk.join("image"))
        .arg(format!("nbd://{address}"));
    std::fs::write(disk.join("image"), b"").unwrap();
    let daemon = Running(client.spawn().unwrap());
    let file = disk.join("image");
    while std::fs::metadata(&file).map_or(0, |meta| meta.len()) == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "nbdfuse does not mount"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    let disk = Mounted {
        at: file.clone(),
        _beside: Some(daemon),
    };
    let lower = dir("lower");
    run(Command::new("mount")
        .args(["-t", "squashfs", "-o", "ro,loop"])
        .args([&file, &lower]))
    .unwrap();
    let squashfs = Mounted {
        at: lower.clone(),
        _beside: None,
    };
    let upper = dir("upper");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(&upper))
    .unwrap();
    let tmpfs = Mounted {
        at: upper.clone(),
        _beside: None,
    };
    for name in ["up", "work"] {
        std::fs::create_dir(upper.join(name)).unwrap();
    }
    let root = dir("root");
    let options = format!(
        "lowerdir={},upperdir={u}/up,workdir={u}/work",
        lower.display(),
        u = upper.display()
    );
    run(Command::new("mount")
        .args(["-t", "overlay", "-o", &options, "overlay"])
        .arg(&root))
    .unwrap();
    let overlay = Mounted {
        at: root.clone(),
        _beside: None,
    };
    trace.replay(&root).unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let name = image.file_name().unwrap().to_string_lossy().into_owned();
    let bytes = shaper.counts().iter().map(|count| count.down).sum();
    say(
        &format!("NBD + {name} + overlayfs"),
        link,
        seconds,
        bytes,
        None,
    );
    drop((overlay, tmpfs, squashfs, disk));
}

/// Many clients at once through one link.
fn crowd(site: &Site, server: SocketAddr, trace: &Trace, count: usize, link: Link) {
    let place = tempfile::tempdir().unwrap();
    let mut shaper = Shaper::new(link);
    let address = shaper.route(0, server).unwrap();
    let url = format!("http://{address}/{SYSTEM}/main@2");
    drop_caches().unwrap();
    let began = Instant::now();
    let client = &program("layerfs");
    let slowest = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..count)
            .map(|i| {
                let (url, at) = (&url, place.path().join(i.to_string()));
                scope.spawn(move || {
                    let mounted = layerfs(client, site, url, &at, "pack");
                    trace.replay(&mounted.at).unwrap();
                    began.elapsed().as_secs_f64()
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .fold(0.0, f64::max)
    });
    let bytes: u64 = shaper.counts().iter().map(|count| count.down).sum();
    say(
        &format!("{count} clients, slowest"),
        link,
        slowest,
        bytes,
        None,
    );
    if link.rate > 0.0 {
        let limit = link.transmission(bytes).as_secs_f64();
        say(
            "the link's own limit for these bytes",
            link,
            limit,
            bytes,
            None,
        );
    }
}

/// All hot pages as one zstd stream: the size of a perfect pack.
fn lower_bound(trace: &Trace, tree: &Path) -> u64 {
    use std::os::unix::fs::FileExt;
    let mut raw = Vec::new();
    for touch in &trace.touches {
        let Some((path, _)) = trace.files.get(touch.file) else {
            continue;
        };
        let Ok(file) = std::fs::File::open(tree.join(path)) else {
            continue;
        };
        let mut bytes = vec![0; usize::try_from(touch.count * 4096).unwrap()];
        let len = file.read_at(&mut bytes, touch.page * 4096).unwrap_or(0);
        raw.extend_from_slice(&bytes[..len]);
    }
    zstd::bulk::compress(&raw, 19).unwrap().len() as u64
}

/// The trace without its larger files, and a tree of the others: for machines without the real one.
fn made(trace: &Trace, place: &Path) -> (Trace, PathBuf) {
    let small = |file: usize| trace.files[file].1 <= 64 << 10;
    let mut places = vec![None; trace.files.len()];
    let mut some = Trace::default();
    for touch in trace.touches.iter().filter(|touch| small(touch.file)) {
        let file = *places[touch.file].get_or_insert_with(|| {
            some.files.push(trace.files[touch.file].clone());
            some.files.len() - 1
        });
        some.touches
            .push(layerfs_benches::trace::Touch { file, ..*touch });
    }
    let tree = place.join("tree");
    some.make_tree(&tree).unwrap();
    (some, tree)
}

/// `20/20,100/50` as links.
fn links(text: &str) -> Vec<Link> {
    let link = |words: &str| {
        let (rate, rtt) = words.split_once('/').expect("RATE/RTT");
        Link {
            rate: rate.parse().unwrap(),
            rtt: Duration::from_millis(rtt.parse().unwrap()),
        }
    };
    text.split(',').map(link).collect()
}

fn main() {
    let place = tempfile::tempdir().unwrap();
    let whole = Trace::minimal().unwrap();
    let (trace, tree) = match std::env::var_os("BENCH_TREE") {
        Some(tree) => (whole, PathBuf::from(tree)),
        None => made(&whole, place.path()),
    };
    let site = Site::new(&tree, &trace);
    let hot = lower_bound(&trace, &tree);
    println!(
        "{}",
        serde_json::json!({
            "case": "sizes", "hot_raw": site.hot_len, "hot_one_zstd19_stream": hot, "pack": site.pack_len,
            "index_head": site.index_len, "index_head_packed": site.index_packed_len,
        })
    );
    assert!(site.hot_len > 1 << 20 && site.pack_len < site.hot_len);
    let (_server, server) = site.serve();
    let builds = Build::all();
    let rounds = std::env::var("BENCH_ROUNDS").map_or(1, |text| text.parse().unwrap());
    let images = std::env::var("BENCH_SQUASHFS").unwrap_or_default();
    for link in links(&std::env::var("BENCH_LINKS").unwrap_or_else(|_| "20/20,100/20".into())) {
        for round in 0..rounds {
            for packed in [true, false] {
                for turn in 0..builds.len() {
                    let build = &builds[(turn + round) % builds.len()];
                    ours(build, &site, server, &trace, link, packed);
                }
            }
        }
        for image in images
            .split(',')
            .filter(|image| !image.is_empty())
            .map(Path::new)
        {
            rival(image, &trace, link);
            let len = std::fs::metadata(image).unwrap().len();
            let name = image.file_name().unwrap().to_string_lossy().into_owned();
            let seconds = (link.transmission(len) + link.rtt * 2).as_secs_f64();
            say(
                &format!("whole {name} first (the link alone)"),
                link,
                seconds,
                len,
                None,
            );
        }
    }
    if let Some(count) = std::env::var("BENCH_CLIENTS")
        .ok()
        .and_then(|count| count.parse().ok())
    {
        // All clients share this machine's processors: without a link, these are the bottleneck.
        crowd(&site, server, &trace, count, Link::UNSHAPED);
        let link = Link {
            rate: 1000.0,
            rtt: Duration::ZERO,
        };
        crowd(&site, server, &trace, count, link);
    }
}
