#!/bin/sh
# libarchive 3.6.2 (Debian 12): `bsdtar -xO IMAGE NAME` prints nothing and exits 0 for a file of an ISO image that
# has two names.
#
# Guess: each name of a file in an ISO 9660 image has a directory record with the place and the length of its data, so
# bsdtar prints the same bytes for both names.
# Seen: bsdtar treats the name that it lists second as a hard link of size 0. `-xO` with that name prints no byte and
# reports no error; `-xO` with the first name prints the file. An extraction of the whole image is right. The order of
# bsdtar's listing decides which name is the second; the caller cannot choose it.
# Why it matters: media made by live-build have `live/vmlinuz` and `live/vmlinuz-VERSION` on one extent. A tool that
# extracts the kernel by name gets an empty file for one of the names and the whole kernel for the other.
#
# Needs: dpkg, apt, network access to a Debian 12 archive. Fails if the behavior changes.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
fetch() { apt-get download -qq "$1" >/dev/null 2>&1 || { echo "cannot get $1: run on Debian 12, after apt-get update" >&2; exit 2; }; }
fetch libarchive-tools=3.6.2-1+deb12u5
fetch libarchive13=3.6.2-1+deb12u5
fetch xorriso=1.5.4-4
fetch libisoburn1=1.5.4-4
fetch libisofs6=1.5.4-1
fetch libburn4=1.5.4-1
for package in *.deb; do dpkg -x "$package" root; done
LD_LIBRARY_PATH=$(find "$room/root" -name 'lib*.so*' -exec dirname {} + | sort -u | paste -sd:)
export LD_LIBRARY_PATH

mkdir -p tree/live
head -c 300000 /dev/zero | tr '\0' k >tree/live/vmlinuz-6.1
ln tree/live/vmlinuz-6.1 tree/live/vmlinuz
root/usr/bin/xorriso -as mkisofs -quiet -R -o image.iso tree 2>/dev/null

first=$(root/usr/bin/bsdtar -xOf image.iso live/vmlinuz | wc -c)
second=$(root/usr/bin/bsdtar -xOf image.iso live/vmlinuz-6.1 | wc -c)
root/usr/bin/bsdtar -xOf image.iso live/vmlinuz-6.1 >/dev/null # exits 0
mkdir all
root/usr/bin/bsdtar -xf image.iso -C all
echo "live/vmlinuz by name: $first bytes; live/vmlinuz-6.1 by name: $second bytes; extracted together: $(wc -c <all/live/vmlinuz-6.1) bytes"
[ "$first" -eq 300000 ] && [ "$second" -eq 0 ] && cmp -s all/live/vmlinuz-6.1 tree/live/vmlinuz-6.1
