#!/bin/sh
# squashfs-tools-ng 1.2.0 (Debian 12): rdsquashfs extracts the names of a hard link as separate files.
#
# Guess: `rdsquashfs -u` makes the hard links of the image, as unsquashfs does, and as sqfs2tar of the same package does
# ("runs hard link detection", manual page). The list of `rdsquashfs -d`, which is the input of gensquashfs, has the line
# `link` that gensquashfs knows for them.
# Seen: two names of one inode, with the link count 2, become two files with the link count 1 and the content twice. The
# list has `file` for both. Nothing is printed about it. The result of squashfs-tools-ng 1.3.2 was the same.
# Why it matters: rdsquashfs needs no root and is small, so initramfs images and build scripts extract a system with it.
# The tree then needs more space than the image says (git and perl install hard links), and a program that
# writes one name in place no longer changes the other one. `sqfs2tar IMAGE | tar -x` keeps the links.
#
# Needs: dpkg, apt, GNU tar, network access to a Debian 12 archive. Fails if the behavior changes.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
for package in squashfs-tools=1:4.5.1-1 squashfs-tools-ng=1.2.0-1 libsquashfs1=1.2.0-1; do
	apt-get -qq -oAPT::Sandbox::User=root download "$package" >/dev/null
done
for package in *.deb; do dpkg -x "$package" root; done
LD_LIBRARY_PATH=$(find "$room/root" -name 'lib*.so*' -exec dirname {} + | sort -u | paste -sd:)
export LD_LIBRARY_PATH
PATH=$room/root/usr/bin:$PATH
mkdir tree by-tar
head -c 100000 /dev/urandom >tree/git
ln tree/git tree/git-add
mksquashfs tree image -quiet -no-progress
unsquashfs -q -n -d by-unsquashfs image >/dev/null
rdsquashfs -q -u / -p by-rdsquashfs image
sqfs2tar image | tar -x -C by-tar
links() { stat -c %h "$1/git" "$1/git-add" | paste -sd' '; }
described=$(rdsquashfs -d image | awk '{ print $1 }' | paste -sd' ')
printf 'links by unsquashfs: %s, by sqfs2tar: %s, by rdsquashfs: %s; described as: %s\n' \
	"$(links by-unsquashfs)" "$(links by-tar)" "$(links by-rdsquashfs)" "$described"
[ "$(links by-unsquashfs)" = "2 2" ]
[ "$(links by-tar)" = "2 2" ]
[ "$(links by-rdsquashfs)" = "1 1" ]
[ "$described" = "file file" ]
