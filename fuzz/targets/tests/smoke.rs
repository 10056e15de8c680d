//! The fuzz targets on stable: a seeded corpus of real inputs, each mutated, bounded in time.
//! `FUZZ_ROUNDS=100000 cargo test -p layerfs-fuzz-targets` runs longer, `FUZZ_SEED` elsewhere.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use layerfs_fuzz_targets as targets;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// A few edits of the kinds that break parsers: flips, cuts, copies, interesting numbers.
fn mutated(input: &[u8], rng: &mut SmallRng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            bytes.push(rng.random());
        }
        let at = rng.random_range(0..bytes.len());
        let end = (at + rng.random_range(1..=64)).min(bytes.len());
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => {
                let special = [0u32, 1, 0x7f, 0xff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
                let number = special[rng.random_range(0..special.len())].to_le_bytes();
                let len = (bytes.len() - at).min(4);
                bytes[at..at + len].copy_from_slice(&number[..len]);
            }
            _ => bytes[at..end].fill(b'0' + rng.random_range(0..10)),
        }
    }
    bytes
}

/// Right checksums for every header-like block, so that mutations reach beyond them.
fn with_checksums(mut archive: Vec<u8>) -> Vec<u8> {
    for block in archive.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    archive
}

fn drive(corpus: &[Vec<u8>], rounds: u64, target: fn(&[u8]), fix: fn(Vec<u8>) -> Vec<u8>) {
    assert!(!corpus.is_empty(), "the corpus is there");
    let mut rng = SmallRng::seed_from_u64(number("FUZZ_SEED", 1));
    for input in corpus {
        target(input);
    }
    let rounds = number("FUZZ_ROUNDS", rounds);
    for round in 0..rounds {
        let input = &corpus[round as usize % corpus.len()];
        target(&fix(mutated(input, &mut rng)));
    }
}

fn tree(place: &Path) {
    let script = "mkdir -p d/e; echo text > d/e/f; ln d/e/f d/g; ln -s d/e/f l; mkfifo p; \
        mkdir w; touch w/.wh.x; head -c 200000 /dev/zero > z; truncate -s 3M s; \
        printf abc >> s; setfattr -n user.a -v b d; touch d/$(printf 'n%.0s' $(seq 200))";
    let status = Command::new("sh")
        .args(["-ec", script])
        .current_dir(place)
        .status()
        .unwrap();
    assert!(status.success());
}

fn archives() -> Vec<Vec<u8>> {
    let place = tempfile::tempdir().unwrap();
    tree(place.path());
    let pax = "tar -S --xattrs --format=pax";
    let table = [
        "tar --format=gnu -S -c .".to_owned(),
        format!("{pax} --sparse-version=0.0 -c ."),
        format!("{pax} --sparse-version=0.1 -c ."),
        format!("{pax} --sparse-version=1.0 -c ."),
        "bsdtar --format=pax -c .".to_owned(),
    ];
    let pack = |command: &String| {
        let mut shell = Command::new("sh");
        let output = shell
            .args(["-ec", command])
            .current_dir(place.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        output.stdout
    };
    table.iter().map(pack).collect()
}

fn layers() -> Vec<Vec<u8>> {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("tree");
    fs::create_dir(&source).unwrap();
    tree(&source);
    let output = place.path().join("x.layer");
    let excludes = wire::exclude::Excludes::default();
    let recipe = bakery::bake::Recipe {
        excludes: &excludes,
        options: layerfmt::Options::level(3),
        labels: vec![("message".into(), "fuzz".into())],
        reading: bakery::assemble::Reading::Changes,
        machine: None,
        is_upload: false,
        progress: &bakery::bake::no_progress,
    };
    let options = source::open::SourceOptions::default();
    let mut opened = source::open::open(&source, &options).unwrap();
    bakery::bake::bake(&mut *opened, None, &recipe, &output).unwrap();
    vec![fs::read(output).unwrap()]
}

/// The pages of an image that are not zeros, as the targets take them.
fn packed(image: &Path) -> Vec<u8> {
    let whole = fs::read(image).unwrap();
    let pages = whole.chunks(targets::PAGE_LEN);
    let count = u32::try_from(pages.len()).unwrap();
    let mut bytes = count.to_le_bytes().to_vec();
    for (page, number) in pages.zip(0u32..) {
        if page.iter().any(|&byte| byte != 0) {
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(page);
        }
    }
    bytes
}

/// Images that `command` makes from a tree, each with other options.
fn images(command: &str, table: &[&str]) -> Vec<Vec<u8>> {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("tree");
    fs::create_dir(&source).unwrap();
    tree(&source);
    let image = |options: &&str| {
        let script = format!("rm -f x.img; {}", command.replace("OPTIONS", options));
        let mut shell = Command::new("sh");
        let made = shell.args(["-ec", &script]).current_dir(place.path());
        let output = made.output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        packed(&place.path().join("x.img"))
    };
    table.iter().map(image).collect()
}

/// Right checksums for every page that is a block of a tree of btrfs with blocks of one page.
fn with_sums_of_btrfs(mut bytes: Vec<u8>) -> Vec<u8> {
    let records = bytes.get_mut(4..).unwrap_or_default();
    for page in records.chunks_exact_mut(4 + targets::PAGE_LEN) {
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &page[36..]) as u32;
        page[4..8].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

#[test]
fn xfs_image() {
    let script = "{ echo /none; echo '0 0'; echo 'd--755 0 0'; echo 'f ---644 1 2 tree/z'; \
        echo 'l l--777 0 0 f'; echo 'c c--600 0 6 4 9'; echo 'd d--755 1 2'; \
        for n in $(seq 1 300); do echo \"a-rather-long-name-$n ---644 1 1 tree/d/e/f\"; done; \
        echo '$'; echo '$'; } > proto; truncate -s 32M x.img; \
        mkfs.xfs --unsupported -q -l size=8m OPTIONS -p proto x.img; \
        xfs_db -x -c 'path /f' -c 'attr_set -u -v 300 one' -c 'attr_set -r -v 9000 two' x.img";
    let corpus = images(
        script,
        &["-m crc=0", "-m crc=0 -n ftype=1 -b size=1024", ""],
    );
    drive(&corpus, 500, targets::xfs_image, |bytes| bytes);
}

#[test]
fn btrfs_image() {
    let script = "truncate -s 120M x.img; mkfs.btrfs -q -n 4096 OPTIONS --rootdir tree x.img";
    let corpus = images(script, &["-m single", "-m dup", "-M"]);
    drive(&corpus, 500, targets::btrfs_image, with_sums_of_btrfs);
}

#[test]
fn tar_ingest() {
    drive(&archives(), 4_000, targets::tar_ingest, with_checksums);
}

#[test]
fn open_layer() {
    drive(&layers(), 3_000, targets::open_layer, |bytes| bytes);
}

#[test]
fn decode_index() {
    let raw = |bytes: &Vec<u8>| {
        let layer = layerfmt::Layer::from_vec(bytes.clone()).unwrap();
        layer.index().raw().to_vec()
    };
    let corpus: Vec<Vec<u8>> = layers().iter().map(raw).collect();
    drive(&corpus, 30_000, targets::decode_index, |bytes| bytes);
}

#[test]
fn decode_chunk() {
    let text = b"some text that compresses, some text that compresses".repeat(40);
    let raw_len = u16::try_from(text.len() - 1).unwrap().to_le_bytes();
    let packed = zstd::bulk::compress(&text, 5).unwrap();
    let framed = |codec: u8, bytes: &[u8]| [&[codec], &raw_len[..], bytes].concat();
    let corpus = [framed(0, &text), framed(1, &packed), framed(2, &packed)];
    drive(&corpus, 30_000, targets::decode_chunk, |bytes| bytes);
}

#[test]
fn update_pack() {
    use layerfmt::update::{Preamble, UpdateHead};
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../layerfmt/testdata/v1");
    let file = fs::read(directory.join("smallest.update")).unwrap();
    let place = Preamble::decode(&file).unwrap().head();
    let stored = &file[place.start as usize..place.end as usize];
    let raw = zstd::bulk::decompress(stored, 1 << 20).unwrap();
    let len = u32::try_from(raw.len()).unwrap();
    let head = UpdateHead::decode(stored, len, &layerfmt::Digest::of(stored)).unwrap();
    assert_eq!(head.to_bytes(), raw);
    let frame = [&1000u32.to_le_bytes()[..], &file[place.end as usize..]].concat();
    let corpus = [file, raw, frame];
    drive(&corpus, 30_000, targets::update_pack, |bytes| bytes);
}

#[test]
fn manifest() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wire/testdata/v1");
    let names = ["manifest.json", "head.json", "keyset.json"];
    let corpus: Vec<Vec<u8>> = names
        .iter()
        .map(|name| fs::read(directory.join(name)).unwrap())
        .collect();
    drive(&corpus, 30_000, targets::manifest, |bytes| bytes);
}

#[test]
fn batch() {
    let body = |object_len: u64, ranges: &[std::ops::Range<u64>]| {
        let body = wire::batch::encode(ranges.iter().cloned()).unwrap();
        [object_len.to_le_bytes().to_vec(), body].concat()
    };
    let many: Vec<_> = (0..64).map(|at| at * 5000..at * 5000 + 4096).collect();
    let corpus = [body(1 << 20, &many), body(10, &[5..8, 0..0, 0..10])];
    drive(&corpus, 30_000, targets::batch, |bytes| bytes);
}

#[test]
fn path() {
    let hex = "00112233445566778899aabbccddeeff".repeat(2);
    let corpus = [
        format!("layers/{hex}.layer"),
        format!("/indexes/{hex}.index"),
        "refs/alt/main/00000000000000000007".to_owned(),
        "/v1/bundle/alt/lab@7".to_owned(),
        "/ipxe/alt@7".to_owned(),
        "locks/sweep/purge-01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
    ];
    drive(
        &corpus.map(String::into_bytes),
        30_000,
        targets::path,
        |bytes| bytes,
    );
}

/// Every byte of a small layer flipped once: never the same layer, never a panic.
#[test]
fn every_byte_of_a_layer_counts() {
    for layer in layers() {
        let whole = std::sync::Arc::new(layerfmt::Layer::from_vec(layer.clone()).unwrap());
        let nothing = layerfmt::LayerSet::default();
        layerfmt::check::check(&whole, &nothing, |_| {}).unwrap();
        for at in 0..layer.len() {
            let mut flipped = layer.clone();
            flipped[at] ^= 0x10;
            let Ok(opened) = layerfmt::Layer::from_vec(flipped) else {
                continue;
            };
            let checked = layerfmt::check::check(&std::sync::Arc::new(opened), &nothing, |_| {});
            assert!(
                checked.is_err(),
                "byte {at} of {} does not matter",
                layer.len()
            );
        }
    }
}
