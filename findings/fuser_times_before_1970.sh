#!/bin/sh
# fuser 0.18.0 (crates.io): a file system's `setattr` gets a wrong time for a time before 1970 that has nanoseconds.
#
# Guess: utimensat(2) with -5 s and 1 ns (that is -4.999999999 s) reaches `setattr` as 4.999999999 s before the epoch.
# Seen: `setattr` gets 5.000000001 s before the epoch: for negative seconds the nanoseconds are subtracted, not added. In
# the other direction (attributes in a reply) the same version is right. A file system that stores the time that it gets
# therefore shows another time than the one that was set; the difference is up to two seconds.
# Why it matters: tar, rsync and cp -a restore times with nanoseconds. The times of a copy on a FUSE file system then
# differ from those of its source, and rsync transfers the file again at each run.
#
# Needs: root, /dev/fuse, cargo with access to crates.io, touch of GNU coreutils. Fails if the behavior changes.
set -eu
room=$(mktemp -d)
trap 'umount "$room/mnt" 2>/dev/null || :; rm -rf "$room"' EXIT
mkdir -p "$room/src" "$room/mnt"
cd "$room"
cat >Cargo.toml <<'Y'
[package]
name = "times"
version = "0.1.0"
edition = "2021"
[dependencies]
fuser = { version = "=0.18.0", default-features = false }
Y
cat >src/main.rs <<'Y'
use fuser::*;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

struct Root;

fn root() -> FileAttr {
    FileAttr {
        ino: INodeNo::ROOT, size: 0, blocks: 0, atime: UNIX_EPOCH, mtime: UNIX_EPOCH, ctime: UNIX_EPOCH, crtime: UNIX_EPOCH,
        kind: FileType::Directory, perm: 0o755, nlink: 2, uid: 0, gid: 0, rdev: 0, flags: 0, blksize: 512,
    }
}

impl Filesystem for Root {
    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &root());
    }
    fn setattr(
        &self, _: &Request, _: INodeNo, _: Option<u32>, _: Option<u32>, _: Option<u32>, _: Option<u64>, _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>, _: Option<SystemTime>, _: Option<FileHandle>, _: Option<SystemTime>, _: Option<SystemTime>,
        _: Option<SystemTime>, _: Option<BsdFileFlags>, reply: ReplyAttr,
    ) {
        if let Some(TimeOrNow::SpecificTime(time)) = mtime {
            println!("{:?}", time.duration_since(UNIX_EPOCH).unwrap_err().duration());
        }
        reply.attr(&Duration::ZERO, &root());
    }
}

fn main() {
    let place = std::env::args().nth(1).unwrap();
    let session = Session::new(Root, place, &Config::default()).unwrap();
    session.run().unwrap();
}
Y
cargo build --quiet
./target/debug/times "$room/mnt" >said &
tries=0
until mountpoint -q mnt; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "the file system was not mounted" >&2; exit 2; }
    sleep 0.1
done
touch -d @-4.999999999 mnt
touch -d @-5 mnt
umount mnt
wait
echo "4.999999999 s before 1970 is given as $(sed -n 1p said) before it, and 5 s as $(sed -n 2p said)"
[ "$(sed -n 1p said)" = 5.000000001s ] && [ "$(sed -n 2p said)" = 5s ]
