//! Finding the old file that a new file resembles.

use std::collections::HashMap;

use layerfmt::{DirentTarget, Index, Ino, ROOT};

/// The regular files of an index by their paths.
#[derive(Debug)]
pub(crate) struct Files {
    by_path: HashMap<Vec<u8>, Ino>,
    by_blank_path: HashMap<Vec<u8>, Vec<Ino>>,
    by_blank_name: HashMap<Vec<u8>, Vec<Ino>>,
}

impl Files {
    pub(crate) fn of(index: &Index) -> Files {
        let mut files = Files {
            by_path: HashMap::new(),
            by_blank_path: HashMap::new(),
            by_blank_name: HashMap::new(),
        };
        walk(index, &mut |path, ino| {
            let blank = blank(path);
            let name = file_name(&blank).to_vec();
            files.by_blank_path.entry(blank).or_default().push(ino);
            files.by_blank_name.entry(name).or_default().push(ino);
            files.by_path.insert(path.to_vec(), ino);
        });
        files
    }

    /// The file at the same path. Without one, the file nearest in size among those with the same
    /// path except for its numbers; without these, among those with the same file name except for
    /// its numbers.
    pub(crate) fn like(&self, index: &Index, path: &[u8], size: u64) -> Option<Ino> {
        let same_name = || {
            let found = self.by_blank_name.get(file_name(&blank(path)));
            found.and_then(|found| nearest(index, found, size))
        };
        self.same(index, path, size).or_else(same_name)
    }

    /// The file at the same path. Without one, the file nearest in size among those with the same
    /// path except for its numbers.
    pub(crate) fn same(&self, index: &Index, path: &[u8], size: u64) -> Option<Ino> {
        if let Some(ino) = self.by_path.get(path) {
            return Some(*ino);
        }
        let found = self.by_blank_path.get(&blank(path));
        found.and_then(|found| nearest(index, found, size))
    }
}

/// The file that is nearest to `size`.
fn nearest(index: &Index, found: &[Ino], size: u64) -> Option<Ino> {
    let distance = |ino: &&Ino| {
        let have = index.inode(**ino).map_or(0, |inode| inode.size);
        (have.abs_diff(size), **ino)
    };
    found.iter().min_by_key(distance).copied()
}

/// Calls `each` with the path (without a leading slash) and the inode number of every regular file.
pub(crate) fn walk(index: &Index, each: &mut impl FnMut(&[u8], Ino)) {
    let mut waiting = vec![(ROOT, Vec::new())];
    while let Some((dir, path)) = waiting.pop() {
        for entry in index.entries(dir, 0) {
            let DirentTarget::Inode(ino) = entry.child else {
                continue;
            };
            let Some(inode) = index.inode(ino) else {
                continue;
            };
            let mut below = path.clone();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(entry.name);
            if inode.is_dir() {
                waiting.push((ino, below));
            } else if inode.is_file() {
                each(&below, ino);
            }
        }
    }
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Replaces each number, and each sequence of numbers and separators, by one `#`.
fn blank(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut in_number = false;
    for byte in path {
        let joins = matches!(byte, b'.' | b'-' | b'+' | b'~' | b'_');
        if byte.is_ascii_digit() {
            if !in_number {
                out.push(b'#');
            }
            in_number = true;
        } else if !(in_number && joins) {
            in_number = false;
            out.push(*byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::blank;

    #[test]
    fn versions_are_one_sign_however_long() {
        for (one, other) in [
            ("usr/lib/libfoo.so.1.2", "usr/lib/libfoo.so.1.3.1"),
            (
                "lib/modules/6.1.0-30-amd64/kernel/fs/ext4.ko",
                "lib/modules/6.1.0-31-amd64/kernel/fs/ext4.ko",
            ),
            ("usr/lib/python3.11/os.py", "usr/lib/python3.12/os.py"),
        ] {
            assert_eq!(blank(one.as_bytes()), blank(other.as_bytes()));
        }
        assert_ne!(blank(b"a1/b"), blank(b"a1/c"));
    }
}
