#!/bin/sh
# btrfs-progs 6.2 (Debian 12): `mkfs.btrfs --rootdir` gives every device node the number 0:0.
#
# Guess: a tree with the devices 1:3 (null) and 300:70000 becomes an image with the same devices, as mke2fs -d,
# mksquashfs and mkfs.erofs make it. The manual page names no exception.
# Seen: both are character devices of number 0:0. mkfs.btrfs prints nothing about it and exits with 0. All else is right
# (owner, mode, attributes, hard links, times). The result of btrfs-progs 7.3 was the same.
# Why it matters: a character device 0:0 is the mark of a removed file in overlayfs. If the image is a lower layer of an
# overlay, as in live systems and diskless machines, stat(2) of the devices gives ENOENT. Without an overlay they exist and
# are no device of any driver. Containers and chroots in the tree that have no /dev of their own are without null.
#
# Needs: root, loop devices, btrfs and overlayfs of the kernel; dpkg, apt, network access to a Debian 12 archive.
# Fails if the behavior changes.
set -eu
room=$(mktemp -d)
trap 'umount "$room/merged" "$room/image" 2>/dev/null || :; rm -rf "$room"' EXIT
cd "$room"
apt-get -qq -oAPT::Sandbox::User=root download btrfs-progs=6.2-1+deb12u2 >/dev/null
dpkg -x btrfs-progs_*.deb root
mkdir -p tree/dev other image merged
mknod tree/dev/null c 1 3
mknod tree/dev/wide c 300 70000
echo text >tree/dev/file
truncate -s 128M disk
$(find root -name mkfs.btrfs) -q --rootdir tree disk >said 2>&1
mount -o loop,ro disk image
numbers=$(stat -c '%n %F %t:%T' image/dev/null image/dev/wide)
mount -t overlay overlay -o lowerdir=image:other merged
through=$(cd merged/dev && for name in null wide file; do [ ! -e "$name" ] || echo "$name"; done)
printf '%s\nin the tree: %s\nin the image:\n%s\nthrough an overlay: %s\n' "$(cat said)" \
	"$(stat -c '%n %t:%T' tree/dev/null tree/dev/wide | paste -sd' ')" "$numbers" "$through"
if grep -qi 'device' said; then exit 1; fi
[ "$numbers" = "image/dev/null character special file 0:0
image/dev/wide character special file 0:0" ]
[ "$through" = file ]
