//! Reads of single pages of a large file: whatever is cached, kept beyond the cache or given early, the bytes
//! are those of the file.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use layerfmt::{DirentTarget, Ino};
use layerfs::lower::Lower;
use layerfs::stack::Stack;

use crate::scratch::Scratch;
use crate::semantics::crowds::Dice;
use crate::session::baker::bake;

const PAGE: usize = 4096;
/// The length of a chunk of a large file.
const CHUNK: u64 = 128 << 10;
/// The size of the smallest large file.
const LARGE: usize = 4 << 20;

/// A program, so that the call filter is in it, text, and bytes that do not shrink.
fn content() -> Vec<u8> {
    let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
    bytes.truncate(2 << 20);
    bytes.extend((0..1 << 17).flat_map(|i: u64| (i * i % 7919).to_le_bytes()));
    let mut noise = vec![0; 1 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    bytes.extend(noise);
    assert!(bytes.len() >= LARGE);
    bytes
}

#[test]
fn single_pages_are_right_wherever_they_are_decoded() {
    let place = Scratch::new();
    let (lower, layer) = (place.path().join("lower"), place.path().join("l"));
    fs::create_dir(&lower).unwrap();
    let content = content();
    fs::write(lower.join("f"), &content).unwrap();
    bake(&lower, &layer);
    let stack = Stack::open(&[layer]).unwrap();
    let entry = stack.index.lookup(layerfmt::ROOT, b"f").unwrap();
    let DirentTarget::Inode(row) = entry.child else {
        panic!("{entry:?}");
    };
    // Without room; with room in the cache; with room beyond it, for some and for all chunks.
    for (cache_len, surplus_len) in [(CHUNK, 0), (64 << 20, 0), (CHUNK, 5 * CHUNK), (0, 64 << 20)] {
        let lower = Lower::new(
            Arc::clone(&stack.index),
            Arc::clone(&stack.source),
            &stack.digest().0,
            cache_len,
        )
        .with_surplus(surplus_len);
        let early = read_at_random(&lower, row, &content);
        let has_room = cache_len + surplus_len > CHUNK;
        assert_eq!(
            early > 0,
            has_room,
            "{cache_len} and {surplus_len}: {early}"
        );
        let held = lower.chunks.held_len();
        assert!(held <= cache_len + surplus_len, "{held} bytes");
        assert_eq!(
            held > CHUNK,
            has_room,
            "{cache_len} and {surplus_len}: {held} bytes"
        );
        let decoded = lower.chunks.counters.decoded.load(Ordering::Relaxed);
        let chunks = content.len() as u64 / CHUNK + 1;
        // In the cache a chunk is evicted when all of its bytes were returned.
        if surplus_len > 16 << 20 {
            assert!(
                decoded <= chunks,
                "{decoded} of {chunks}: each of them once"
            );
        }
    }
}

/// Four readers of pages; returns the number of early answers.
fn read_at_random(lower: &Lower, row: Ino, content: &[u8]) -> usize {
    let all_early = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for seed in 1..5 {
            let all_early = &all_early;
            scope.spawn(move || {
                let mut dice = Dice(seed * 7919);
                let mut data = Vec::new();
                for _ in 0..200 {
                    let len = PAGE * (1 + dice.below(3));
                    let at = dice.below(content.len() - len / 2);
                    let wanted = &content[at..(at + len).min(content.len())];
                    let mut early = 0;
                    let mut take = |bytes: &[u8]| {
                        assert!(bytes == wanted, "{len} from {at}, early");
                        early += 1;
                    };
                    let size = content.len() as u64;
                    lower
                        .read_early(row, at as u64, len, size, &mut data, Some(&mut take))
                        .unwrap();
                    assert!(data == wanted, "{len} from {at}");
                    assert!(early <= 1, "answered {early} times");
                    all_early.fetch_add(early, Ordering::Relaxed);
                }
            });
        }
    });
    all_early.into_inner()
}
