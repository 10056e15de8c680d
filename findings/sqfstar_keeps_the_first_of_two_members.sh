#!/bin/sh
# squashfs-tools 4.5.1 (Debian 12): if an archive has two members of one name, sqfstar keeps the first one.
#
# Guess: `tar -rf` (append) and `tar -uf` (update) add a newer member behind the older one, and the last member of a name
# is the file, as in an extraction with GNU tar or bsdtar. sqfstar does the same, or refuses the archive.
# Seen: the image has the older file. sqfstar prints "d/f already exists in the tar file, ignoring" among its progress,
# and exits with 0. With `-exit-on-error`, which is for ignored errors, it does the same. The result of `mksquashfs -tar`
# 4.7.5 was the same. tar2sqfs (squashfs-tools-ng 1.2.0) refuses the archive; mkfs.erofs 1.9.4 takes the last member.
# Why it matters: a root file system is often an archive to which a build appends its configuration. An image made by
# sqfstar boots with the files from before the change, and the same archive extracted with tar has the changed files.
#
# Needs: dpkg, apt, GNU tar, network access to a Debian 12 archive. Fails if the behavior changes.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
fetch() { apt-get -qq -oAPT::Sandbox::User=root download "$1" >/dev/null; }
fetch squashfs-tools=1:4.5.1-1
fetch squashfs-tools-ng=1.2.0-1
fetch libsquashfs1=1.2.0-1
fetch libarchive-tools=3.6.2-1+deb12u5
fetch libarchive13=3.6.2-1+deb12u5
for package in *.deb; do dpkg -x "$package" root; done
LD_LIBRARY_PATH=$(find "$room/root" -name 'lib*.so*' -exec dirname {} + | sort -u | paste -sd:)
export LD_LIBRARY_PATH
mkdir d by-tar by-bsdtar
echo older >d/f
tar -cf archive.tar d
echo newer >d/f
tar -rf archive.tar d/f
tar -xf archive.tar -C by-tar
root/usr/bin/bsdtar -xf archive.tar -C by-bsdtar
root/usr/bin/sqfstar image <archive.tar >said 2>&1
root/usr/bin/sqfstar -exit-on-error strict <archive.tar >/dev/null 2>&1
if root/usr/bin/tar2sqfs -q other <archive.tar 2>/dev/null; then other=taken; else other=refused; fi
content() { root/usr/bin/unsquashfs -cat "$1" d/f; }
printf 'tar: %s, bsdtar: %s, sqfstar: %s, with -exit-on-error: %s, tar2sqfs: %s\n' "$(cat by-tar/d/f)" \
	"$(cat by-bsdtar/d/f)" "$(content image)" "$(content strict)" "$other"
grep 'already exists' said
[ "$(cat by-tar/d/f by-bsdtar/d/f)" = "newer
newer" ]
[ "$(content image)" = older ]
[ "$(content strict)" = older ]
[ "$other" = refused ]
