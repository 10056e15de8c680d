//! Micro benches: the cost of one operation of the format.
//!
//! `cargo bench -p layerfs-benches --bench micro`; with `-- --test` each runs once.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on stops"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use layerfmt::codec::{Compressor, Effort};
use layerfmt::flatten::FlattenInput;
use layerfmt::{Chunk, ChunkFile, Digest, Index, Layer, ROOT, decode_chunk};
use layerfs_benches::fixture::{self, Shape};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

/// About 100,000 inodes, as a large Debian system has.
const SYSTEM: Shape = Shape {
    directories: 6_000,
    files: 16,
    file_len: 0,
    seed: 1,
};
/// One of 64 layers that hold 1,000,000 inodes together.
const SIXTY_FOURTH: Shape = Shape {
    directories: 900,
    files: 16,
    file_len: 0,
    seed: 7,
};
const CHUNK_LEN: usize = 256 << 10;

fn system(directory: &Path) -> Layer {
    let path = directory.join("system.layer");
    fixture::layer(&path, SYSTEM).unwrap();
    Layer::open(&path).unwrap()
}

/// Some (directory, name) pairs of the index, spread over it.
fn names(index: &Index) -> Vec<(u32, Vec<u8>)> {
    let mut found = Vec::new();
    for ino in 0..index.inode_count() {
        found.extend(
            index
                .entries(ino, 0)
                .map(|entry| (ino, entry.name.to_vec())),
        );
    }
    let mut random = SmallRng::seed_from_u64(3);
    (0..4096)
        .map(|_| found[random.random_range(0..found.len())].clone())
        .collect()
}

fn index(c: &mut Criterion) {
    let directory = TempDir::new().unwrap();
    let layer = system(directory.path());
    let index = Arc::clone(layer.index());
    let head = std::fs::read(directory.path().join("system.layer")).unwrap();
    let raw = index.raw().to_vec();
    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Elements(index.inode_count().into()));
    group.bench_function("open and validate", |b| {
        b.iter_batched(
            || head.clone(),
            |bytes| Layer::from_vec(bytes).unwrap(),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("validate", |b| {
        let end = layer.superblock().data_end;
        b.iter_batched(
            || raw.clone(),
            |bytes| Index::decode(bytes, end).unwrap(),
            BatchSize::LargeInput,
        );
    });
    let names = names(&index);
    group.throughput(Throughput::Elements(names.len() as u64));
    group.bench_function("lookup", |b| {
        b.iter(|| {
            names
                .iter()
                .filter(|(dir, name)| index.lookup(*dir, name).is_some())
                .count()
        });
    });
    group.bench_function("lookup, absent", |b| {
        b.iter(|| {
            names
                .iter()
                .filter(|(dir, _)| index.lookup(*dir, b"libnone.so.6").is_some())
                .count()
        });
    });
    group.throughput(Throughput::Elements(index.inode_count().into()));
    group.bench_function("readdir of everything", |b| {
        b.iter(|| {
            (0..index.inode_count())
                .map(|ino| index.entries(ino, 0).map(black_box).count())
                .sum::<usize>()
        });
    });
    group.finish();
}

fn decode(c: &mut Criterion) {
    // This very program is as good a piece of x86 code as any.
    let mut raw = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    raw.truncate(CHUNK_LEN);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    let mut out = Vec::new();
    for (name, x86) in [
        ("chunk of 256 KiB", false),
        ("chunk of 256 KiB, x86 filter", true),
    ] {
        let mut stored = Vec::new();
        let codec = Compressor::new(Effort::level(15))
            .unwrap()
            .compress(&raw, x86, &mut stored)
            .unwrap();
        let chunk = Chunk {
            source: ChunkFile::Own,
            offset: 0,
            stored_len: stored.len().try_into().unwrap(),
            raw_len: raw.len().try_into().unwrap(),
            codec,
            digest: Digest::of(&stored),
        };
        group.bench_function(name, |b| {
            b.iter(|| decode_chunk(&chunk, &stored, &mut out).unwrap())
        });
    }
    let stored = zstd::bulk::compress(&raw, 15).unwrap();
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    let mut out = vec![0; raw.len()];
    group.bench_function("zstd alone", |b| {
        b.iter(|| {
            decompressor
                .decompress_to_buffer(&stored, &mut out[..])
                .unwrap()
        });
    });
    group.finish();
}

fn flatten(c: &mut Criterion) {
    let directory = TempDir::new().unwrap();
    let paths = fixture::stack(directory.path(), 64, SIXTY_FOURTH).unwrap();
    let inputs: Vec<FlattenInput> = fixture::open(&paths)
        .unwrap()
        .iter()
        .map(|layer| FlattenInput::of(layer, false).unwrap())
        .collect();
    let total: u64 = inputs
        .iter()
        .map(|input| u64::from(input.index.inode_count()))
        .sum();
    let mut group = c.benchmark_group("flatten");
    group
        .throughput(Throughput::Elements(total))
        .sample_size(10);
    group.bench_function("64 layers", |b| {
        b.iter(|| layerfmt::flatten::flatten(&inputs).unwrap())
    });
    let mut random = SmallRng::seed_from_u64(9);
    let merged = layerfmt::flatten::flatten(&inputs).unwrap().index;
    group.throughput(Throughput::Elements(1));
    group.bench_function("lookup in 64 flattened layers", |b| {
        let directories = merged.inode_count() / 17;
        b.iter(|| merged.lookup(random.random_range(ROOT..directories), b"libnone.so.6"));
    });
    group.finish();
}

fn merge_rule(c: &mut Criterion) {
    let shape = Shape {
        directories: 600,
        files: 16,
        file_len: 0,
        seed: 1,
    };
    let mut count = 0_u64;
    let mut content = |_: Vec<u8>| {
        count += 1;
        Ok(count)
    };
    let base = fixture::tree(shape, &mut content).unwrap();
    let delta = fixture::tree(
        Shape {
            directories: 60,
            seed: 2,
            ..shape
        },
        &mut content,
    )
    .unwrap();
    let target = layerfmt::tree::apply::apply(&base, &delta).unwrap();
    let mut group = c.benchmark_group("merge rule");
    group
        .throughput(Throughput::Elements(base.node_count() as u64))
        .measurement_time(Duration::from_secs(3));
    group.bench_function("apply", |b| {
        b.iter(|| layerfmt::tree::apply::apply(&base, &delta).unwrap())
    });
    group.bench_function("diff", |b| {
        b.iter(|| layerfmt::tree::diff::diff(&base, &target).unwrap())
    });
    group.finish();
}

criterion_group!(benches, index, decode, flatten, merge_rule);
criterion_main!(benches);
