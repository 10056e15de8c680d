use super::*;

fn chunk(i: u32) -> (Digest, Bytes) {
    let bytes: Vec<u8> = (0..10_000u32)
        .flat_map(|j| (i.wrapping_mul(j)).to_le_bytes())
        .collect();
    (Digest::of(&bytes), Bytes::from(bytes))
}

fn filled(dir: &Path, count: u32) {
    let cache = DiskCache::open(dir, 1 << 30).unwrap();
    for i in 0..count {
        let (digest, bytes) = chunk(i);
        cache.put(&digest, &bytes);
    }
}

fn file_of(dir: &Path, digest: &Digest) -> std::path::PathBuf {
    dir.join(VERSION_DIR).join(path(digest))
}

#[test]
fn keeps_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 20);
    let cache = DiskCache::open(dir.path(), 1 << 30).unwrap();
    for i in 0..20 {
        assert_eq!(cache.get(&chunk(i).0), Some(chunk(i).1));
    }
    assert_eq!(cache.len(), 20 * space(40_000));
}

#[test]
fn two_mounts_share_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let other = DiskCache::open(dir.path(), 1 << 30).unwrap();
    filled(dir.path(), 3);
    assert_eq!(other.get(&chunk(2).0), Some(chunk(2).1));
}

#[test]
fn every_torn_write_is_found_removed_and_can_be_written_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 1);
    let (digest, bytes) = chunk(0);
    let file = file_of(dir.path(), &digest);
    // Possible states after a power cut: a prefix of any length, zeros after it, one flipped bit,
    // garbage.
    let mut torn: Vec<Vec<u8>> = (0..bytes.len())
        .step_by(997)
        .map(|len| bytes[..len].to_vec())
        .collect();
    torn.extend((0..bytes.len()).step_by(4096).map(|len| {
        let mut zeroed = bytes.to_vec();
        zeroed[len..].fill(0);
        zeroed[39_999] = 1;
        zeroed
    }));
    torn.extend((0..8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[20_000] ^= 1 << bit;
        flipped
    }));
    torn.push([bytes.as_ref(), &[0]].concat());
    for left in torn {
        std::fs::write(&file, &left).unwrap();
        let cache = DiskCache::open(dir.path(), 1 << 30).unwrap();
        assert_eq!(cache.get(&digest), None, "{} bytes", left.len());
        assert_eq!(cache.damaged(), 1);
        assert!(!file.exists());
        cache.put(&digest, &bytes);
        drop(cache);
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
    }
}

#[test]
fn what_a_dead_writer_left_is_cleared_and_never_read() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 1);
    let stage = dir.path().join(VERSION_DIR).join(STAGE_DIR);
    // No process has this number: it is above every possible pid.
    std::fs::write(stage.join("4194999-1"), b"half").unwrap();
    let mine = stage.join(format!("{}-77", std::process::id()));
    std::fs::write(&mine, b"being written").unwrap();
    drop(DiskCache::open(dir.path(), 1 << 30).unwrap());
    assert!(!stage.join("4194999-1").exists());
    assert!(mine.exists());
}

#[test]
fn stays_within_its_size_and_drops_the_least_recently_used() {
    let dir = tempfile::tempdir().unwrap();
    let one = space(40_000);
    filled(dir.path(), 10);
    let cache = DiskCache::open(dir.path(), 10 * one).unwrap();
    for i in 1..10 {
        assert!(cache.get(&chunk(i).0).is_some());
    }
    cache.put(&chunk(100).0, &chunk(100).1);
    drop(cache);
    assert!(
        !file_of(dir.path(), &chunk(0).0).exists(),
        "0 was not used since the start"
    );
    assert!(file_of(dir.path(), &chunk(100).0).exists());
    let smaller = DiskCache::open(dir.path(), 3 * one).unwrap();
    assert!(smaller.len() <= 3 * one);
    let files = walk(&dir.path().join(VERSION_DIR));
    assert!(files <= 3, "{files} files");
}

fn walk(dir: &Path) -> usize {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

#[test]
fn a_chunk_larger_than_the_cache_is_not_kept_and_drives_nothing_out() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 2);
    let cache = DiskCache::open(dir.path(), 2 * space(40_000)).unwrap();
    let large = Bytes::from(vec![1; 200_000]);
    cache.put(&Digest::of(&large), &large);
    drop(cache);
    let cache = DiskCache::open(dir.path(), 2 * space(40_000)).unwrap();
    assert!(cache.get(&chunk(0).0).is_some() && cache.get(&chunk(1).0).is_some());
}

/// The stream of an update pack waits by this length, so it counts every chunk until the writer has it.
#[test]
fn waiting_chunks_are_counted_until_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(dir.path(), 1 << 30).unwrap();
    // The writer stops at the lock when it has taken the first chunk.
    let held = cache.shared.lock();
    let (queue, len) = (cache.queue.as_ref().unwrap(), 40_000);
    for i in 0..3 {
        let (digest, bytes) = chunk(i);
        cache.shared.waiting_len.fetch_add(len, Ordering::AcqRel);
        queue.send((digest, bytes)).unwrap();
    }
    assert!(cache.waiting_len() >= 2 * len);
    drop(held);
    for i in 3..20 {
        cache.put(&chunk(i).0, &chunk(i).1);
    }
    // Dropping the cache waits for its writer.
    let shared = Arc::clone(&cache.shared);
    drop(cache);
    assert_eq!(shared.waiting_len.load(Ordering::Acquire), 0);
    let cache = shared;
    assert!((0..20).all(|i| cache.knows(&chunk(i).0)));
}
