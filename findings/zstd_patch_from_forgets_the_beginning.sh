#!/bin/sh
# zstd 1.5.4 (Debian 12): `zstd --patch-from=OLD NEW` finds nothing in the beginning of OLD if NEW is at most 2 MiB.
#
# Guess: OLD has 8 MB and NEW is its first 2 MB. The patch has a few hundred bytes, like the patch for the last 2 MB.
# Seen: the patch has all 2 MB, at level 3 (the default) and 9. It is small for the last 2 MB of OLD, for the first
# 2.5 MB, and at level 19. The manual page says that `--long` may force long distance matching; with `--long=23` or a
# larger window the patch is as large. With larger tables (`--zstd=hlog=20,clog=20`) it is small. The sizes of the tables
# follow from the size of NEW, and zstd indexes only as many of the last bytes of OLD as these tables are good for.
# The result of zstd 1.5.7 was the same.
# Why it matters: if an update makes a file much smaller (a package that is split, an initramfs for one machine in the
# place of one for all, an image with less free space), the patch contains the file again. A program that takes the file
# as its reference must set hashLog and chainLog by the size of the reference, not only windowLog.
#
# Needs: dpkg, apt, network access to a Debian 12 archive. Takes seconds. Fails if the behavior changes.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
apt-get -qq -oAPT::Sandbox::User=root download zstd=1.5.4+dfsg2-5 >/dev/null
dpkg -x zstd_*.deb root
head -c 8000000 /dev/urandom >old
head -c 2000000 old >first
head -c 2500000 old >more
tail -c 2000000 old >last
size() { # size NEW OPTION...: the length of the patch, which is applied to see that it is right
	new=$1
	shift
	root/usr/bin/zstd -q -f "$@" --patch-from=old "$new" -o patch 2>/dev/null
	root/usr/bin/zstd -q -f -d --long=27 --patch-from=old patch -o again
	cmp "$new" again
	stat -c %s patch
}
small() { echo "$1 $2"; [ "$1" -lt 1000 ]; }
whole() { echo "$1 $2"; [ "$1" -gt 2000000 ]; }
whole "$(size first)" "bytes for the first 2 MB"
whole "$(size first -9)" "bytes for the first 2 MB at level 9"
whole "$(size first --long=23)" "bytes for the first 2 MB with --long=23"
whole "$(size first --zstd=wlog=24)" "bytes for the first 2 MB with a window of 16 MiB"
small "$(size last)" "bytes for the last 2 MB"
small "$(size more)" "bytes for the first 2.5 MB"
small "$(size first -19)" "bytes for the first 2 MB at level 19"
small "$(size first --zstd=hlog=20,clog=20)" "bytes for the first 2 MB with larger tables"
