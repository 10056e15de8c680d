#!/bin/sh
# Linux 6.18 with mergerfs 2.33.5 (Debian 12, `cache.readdir=true`): a listing that begins after two files were removed
# still contains their names, if an older listing of the same directory is not finished.
#
# Guess: the kernel caches listings of a FUSE directory and drops the cache when the directory changes. A listing that
# begins after unlink(2) returned does not contain the file, as POSIX requires of readdir(3).
# Seen: if two listings run at once, the newer one contains both files. The kernel compares the age of its cache with the
# directory only at the beginning of a listing. The newer listing begins without a cache. Then the older one, which began
# before the removals, reaches its end and completes the cache, and the newer one continues in that cache. stat(2) of the
# two names gives ENOENT. The newer listing is right with `cache.readdir=false`, or if it begins after the older one has
# ended.
# Why it matters: every FUSE file system that lets the kernel cache listings (FOPEN_CACHE_DIR, or no opendir at all)
# behaves in this way. A program that lists a directory must expect ENOENT for each name, even if nothing changes the
# directory during the listing. A test that compares listings with a model must allow for it.
#
# Needs: root, /dev/fuse, python3, apt and dpkg of Debian 12 with network access to its archive. Takes seconds.
# Fails if the behavior changes.
set -eu
room=$(mktemp -d)
trap 'umount "$room/merged" 2>/dev/null || true; rm -rf "$room"' EXIT
cd "$room"
apt-get -qq -oAPT::Sandbox::User=root download mergerfs=2.33.5-1 >/dev/null
dpkg-deb -x mergerfs_*.deb unpacked
mkdir branch merged
cat >listings.py <<'END'
import os
import sys

for number in range(2000):
    open(f"branch/f{number}", "w").close()
older = os.scandir("merged")
next(older)
for name in ("f3", "f1999"):
    os.unlink(f"merged/{name}")
newer = os.scandir("merged")
names = {next(newer).name}
if sys.argv[1] == "at-once":
    for _ in older:
        pass
    names |= {entry.name for entry in newer}
else:
    names |= {entry.name for entry in newer}
    for _ in older:
        pass
gone = sorted(name for name in names if not os.path.exists(f"merged/{name}"))
later = sum(1 for _ in os.scandir("merged"))
print(f"{len(names)} names, removed ones among them: {' '.join(gone) or 'none'}; a later listing: {later}")
END
try() {
	unpacked/usr/bin/mergerfs -o "cache.readdir=$1" branch merged
	python3 listings.py "$2"
	umount merged
}
cached=$(try true at-once)
alone=$(try true one-by-one)
uncached=$(try false at-once)
printf 'Linux %s\ncached, at once:    %s\ncached, one by one: %s\nnot cached:         %s\n' \
	"$(uname -r)" "$cached" "$alone" "$uncached"
right="1998 names, removed ones among them: none; a later listing: 1998"
[ "$cached" = "2000 names, removed ones among them: f1999 f3; a later listing: 1998" ]
[ "$alone" = "$right" ]
[ "$uncached" = "$right" ]
