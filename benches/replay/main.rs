//! The replay of a recorded boot on a layerfs mount and on overlayfs over squashfs, cold, in one run.
//!
//! `cargo bench -p layerfs-benches --bench boot` (root; after `make build`). With `BENCH_TREE=DIR` the
//! tree of that boot is used (benches/trees/build.sh minimal DIR); without it one of made bytes.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use layerfmt::layer::Meta;
use layerfmt::tree::{Kind, Node, ROOT};
use layerfmt::{LayerWriter, Name, Options, Tree};
use layerfs_benches::fixture::{self, metadata};
use layerfs_benches::mounted::{Mounted, drop_caches, run};
use layerfs_benches::trace::{Trace, checksum};
use tempfile::TempDir;

/// Bakes only the files of `tree` that the trace accesses: the cold rest does not slow the replay.
fn bake(trace: &Trace, tree: &Path, path: &Path) {
    let mut writer = LayerWriter::create(path, Options::bake(), None).unwrap();
    let mut made = Tree::new(metadata(0o755));
    let mut files: Vec<&PathBuf> = trace.files.iter().map(|(path, _)| path).collect();
    files.sort();
    for file in files {
        let Ok(bytes) = std::fs::read(tree.join(file)) else {
            continue;
        };
        let mut parent = ROOT;
        let mut parts: Vec<&str> = file.to_str().unwrap().split('/').collect();
        let last = Name::new(parts.pop().unwrap().as_bytes()).unwrap();
        for part in parts {
            parent = fixture::folder(&mut made, parent, part).unwrap();
        }
        let kind = Kind::File(fixture::add(&mut writer, &bytes).unwrap());
        made.insert(
            parent,
            last,
            Node {
                meta: metadata(0o644),
                kind,
            },
        )
        .unwrap();
    }
    writer.finish(made, &Meta::default()).unwrap();
}

fn cold(trace: &Trace, mount: impl Fn() -> Mounted) -> Duration {
    let mounted = mount();
    drop_caches().unwrap();
    let start = Instant::now();
    trace.replay(mounted.root()).unwrap();
    start.elapsed()
}

fn boot(c: &mut Criterion) {
    let trace = Trace::minimal().unwrap();
    let directory = TempDir::new().unwrap();
    let place = |name: &str| directory.path().join(name);
    let tree = std::env::var_os("BENCH_TREE").map_or_else(
        || {
            trace.make_tree(&place("tree")).unwrap();
            place("tree")
        },
        PathBuf::from,
    );
    bake(&trace, &tree, &place("base.layer"));
    let image = place("base.squashfs");
    let options = [
        "-noappend",
        "-no-progress",
        "-quiet",
        "-comp",
        "zstd",
        "-Xcompression-level",
        "15",
        "-b",
        "128K",
    ];
    run(Command::new("mksquashfs")
        .arg(&tree)
        .arg(&image)
        .args(options))
    .unwrap();
    let layerfs = || Mounted::layerfs(&[place("base.layer")], &place("layerfs")).unwrap();
    let squashfs = || Mounted::squashfs_under_overlayfs(&image, &place("overlayfs")).unwrap();
    let expected = checksum(&trace, &tree).unwrap();
    assert_eq!(
        checksum(&trace, layerfs().root()).unwrap(),
        expected,
        "layerfs serves other bytes"
    );
    assert_eq!(
        checksum(&trace, squashfs().root()).unwrap(),
        expected,
        "squashfs serves other bytes"
    );
    let mut group = c.benchmark_group("boot replay, cold");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .throughput(Throughput::Bytes(trace.touched()));
    group.bench_function("layerfs", |b| {
        b.iter_custom(|n| (0..n).map(|_| cold(&trace, layerfs)).sum())
    });
    group.bench_function("overlayfs over squashfs", |b| {
        b.iter_custom(|n| (0..n).map(|_| cold(&trace, squashfs)).sum());
    });
    group.finish();
}

criterion_group!(benches, boot);
criterion_main!(benches);
