#!/bin/sh
# squashfs-tools 4.5.1 (Debian 12): `unsquashfs -pf` writes wrong numbers for a device whose minor number is above 255, and
# mksquashfs refuses the pseudo file.
#
# Guess: `-pf` writes "a pseudo file equivalent of the input Squashfs filesystem" (manual page), and mksquashfs makes the
# same image of it. The format stores minor numbers of 20 bits, and a mount shows 8:256 (the disk sdq) as 8:256.
# Seen: the pseudo file and the listing (`unsquashfs -lls`) have 4104:0. mksquashfs says "Major 4104 out of range" and makes
# no image. The extraction (`unsquashfs -d`) has 8:256. The pseudo file of squashfs-tools 4.7.5 has 4104:0 too.
# Why it matters: a pseudo file is the way to change an image without root and without loss of owners and devices. An image
# with one such device (disks after the 16th, NVMe partitions, terminals) cannot be changed in this way, and a tool that
# reads the listing takes a wrong number.
#
# Needs: root (mknod), dpkg, apt, network access to a Debian 12 archive. Fails if the behavior changes.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
apt-get -qq -oAPT::Sandbox::User=root download squashfs-tools=1:4.5.1-1 >/dev/null
dpkg -x squashfs-tools_*.deb root
PATH=$room/root/usr/bin:$PATH
mkdir tree empty
mknod tree/sdp b 8 240
mknod tree/sdq b 8 256
mksquashfs tree image -quiet -no-progress
listed=$(unsquashfs -lls image | sed -n 's/^b[^ ]* [^ ]* *\([0-9]*\), *\([0-9]*\) .*/\1:\2/p' | paste -sd' ')
unsquashfs -q -n -d out image >/dev/null
unsquashfs -q -pf pseudo image >/dev/null
written=$(awk '$2 == "B" { print $1, $7 ":" $8 }' pseudo | paste -sd' ')
if mksquashfs empty again -quiet -no-progress -pf pseudo >said 2>&1; then made=yes; else made=no; fi
extracted=$(stat -c '%n %t:%T' out/sdp out/sdq | paste -sd' ')
printf 'listed: %s\npseudo file: %s\nextracted (hexadecimal): %s\nmade again: %s: %s\n' \
	"$listed" "$written" "$extracted" "$made" "$(head -n 1 said)"
[ "$listed" = "8:240 4104:0" ]
[ "$written" = "sdp 8:240 sdq 4104:0" ]
[ "$extracted" = "out/sdp 8:f0 out/sdq 8:100" ]
[ "$made" = no ]
grep -q '^Major 4104 out of range' said
