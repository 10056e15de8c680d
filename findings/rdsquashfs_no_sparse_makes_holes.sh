#!/bin/sh
# squashfs-tools-ng 1.2.0 (Debian 12): rdsquashfs writes holes as zeros by default, and makes holes with `--no-sparse`.
#
# Guess: `rdsquashfs -u` makes holes where the image has them, and `--no-sparse` does not. The manual page says of
# `--no-sparse`: "Do not create sparse files. Always unpack sparse files by writing blocks of zeros to disk."
# Seen: the option is inverted. By default a file of 8 MiB that is a hole is written in pieces of 512 bytes and has 16384
# blocks on the disk. With `--no-sparse` it has none. unsquashfs makes the hole. The result of
# squashfs-tools-ng 1.3.2 was the same.
# Why it matters: images of virtual disks, swap files and databases in a root file system are mostly holes. A diskless
# machine or an initramfs that extracts such an image with rdsquashfs into memory runs out of it, unless it is called with
# the option that says the opposite.
#
# Needs: dpkg, apt, network access to a Debian 12 archive, a temporary folder on a file system with holes.
# Fails if the behavior changes.
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
mkdir tree
truncate -s 8M tree/hole
mksquashfs tree image -quiet -no-progress
unsquashfs -q -n -d by-unsquashfs image >/dev/null
rdsquashfs -q -u / -p by-default image
rdsquashfs -q --no-sparse -u / -p by-no-sparse image
sync by-*/hole
blocks() { stat -c %b "$1/hole"; }
printf 'blocks by unsquashfs: %s, by rdsquashfs: %s, by rdsquashfs --no-sparse: %s\n' \
	"$(blocks by-unsquashfs)" "$(blocks by-default)" "$(blocks by-no-sparse)"
cmp by-default/hole tree/hole
cmp by-no-sparse/hole tree/hole
[ "$(blocks by-unsquashfs)" -eq 0 ]
[ "$(blocks by-default)" -ge 16384 ]
[ "$(blocks by-no-sparse)" -eq 0 ]
