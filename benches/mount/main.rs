//! From `layerfs mount` to the first byte of a file, for stacks of 1 to 256 layers.
//!
//! `cargo bench -p layerfs-benches --bench mount` (root; after `make build`).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on stops"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use layerfs_benches::fixture::{self, Shape};
use layerfs_benches::mounted::Mounted;
use tempfile::TempDir;

const SHAPE: Shape = Shape {
    directories: 16,
    files: 16,
    file_len: 1024,
    seed: 11,
};

/// Mounts, reads one byte of the base, unmounts; the time of the first two.
fn first_byte(layers: &[PathBuf], root: &std::path::Path, file: &str) -> Duration {
    let start = Instant::now();
    let mounted = Mounted::layerfs(layers, root).unwrap();
    let bytes = std::fs::read(mounted.root().join(file)).unwrap();
    let took = start.elapsed();
    assert_eq!(bytes.len(), SHAPE.file_len);
    took
}

fn time_to_first_byte(c: &mut Criterion) {
    let directory = TempDir::new().unwrap();
    let layers = fixture::stack(directory.path(), 256, SHAPE).unwrap();
    let base = fixture::open(&layers[..1]).unwrap();
    let index = base[0].index();
    let name = |dir| index.entries(dir, 0).next().unwrap().name.to_vec();
    let part = index.lookup(layerfmt::ROOT, &name(layerfmt::ROOT)).unwrap();
    let layerfmt::DirentTarget::Inode(part_ino) = part.child else {
        panic!("a whiteout in a base")
    };
    let inner = index.lookup(part_ino, &name(part_ino)).unwrap();
    let layerfmt::DirentTarget::Inode(inner_ino) = inner.child else {
        panic!("a whiteout in a base")
    };
    let path = [part.name, inner.name, &name(inner_ino)].join(&b'/');
    let path = String::from_utf8(path).unwrap();
    let root = directory.path().join("root");
    let mut group = c.benchmark_group("mount to first byte");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500));
    for count in [1, 4, 16, 64, 256] {
        group.bench_function(BenchmarkId::new("layers", count), |b| {
            b.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| first_byte(&layers[..count], &root, &path))
                    .sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, time_to_first_byte);
criterion_main!(benches);
