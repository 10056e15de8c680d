#!/bin/sh
# lsinitramfs and unmkinitramfs 0.142 (initramfs-tools, Debian 12) and lsinitrd 059 (dracut): of an initramfs that has two
# compressed cpio archives, one after the other, they show only the first, without a message, and succeed.
#
# Guess: they show both. The kernel's documentation of the buffer format allows any number of archives, each compressed or
# not, and the tools do split uncompressed archives, such as processor microcode, from the compressed one after them.
# Seen: of two archives with one file each (xz, gzip or zstd), `lsinitramfs`, `unmkinitramfs` and `lsinitrd` show the file
# of the first. All that follows is decompressed as one stream, and cpio stops at the first trailer. Linux 6.12.95 in QEMU
# had both files in its root. The same with lsinitrd of dracut 106, and with 3cpio 0.14.0, which calls such a file one
# archive. If the first archive is not compressed, both are shown.
# Why it matters: a boot loader or a server that appends files to an initramfs (drivers, a configuration, keys) gives the
# kernel what it should, but an administrator who looks into the file sees nothing of it, and a script that searches it for
# a module or a secret finds nothing. Whoever builds an initramfs of parts must compress only the last of them.
#
# Needs: dpkg, apt, cpio, xz, gzip, zstd, bash; network access to a Debian 12 archive. Takes seconds. Fails if the behavior
# changes.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
apt-get -qq -oAPT::Sandbox::User=root download initramfs-tools-core=0.142+deb12u3 dracut-core=059-4 >/dev/null
for package in ./*.deb; do dpkg -x "$package" root; done
PATH=$room/root/usr/bin:$PATH
mkdir one two
echo 1 >one/first
echo 2 >two/second

# archive DIR COMMAND...: DIR as one archive, through COMMAND
archive() {
	dir=$1
	shift
	(cd "$dir" && find . | cpio -o -H newc --quiet) | "$@"
}

# has YES|NO TEXT NAME: what a tool said has the name, or not
has() {
	said=no
	if printf '%s\n' "$2" | grep -qE "(^|[ /])$3\$"; then said=yes; fi
	echo "  $3: $said"
	[ "$said" = "$1" ]
}

for way in "xz --check=crc32" "gzip -n" "zstd -q"; do
	# shellcheck disable=SC2086 # words of a command
	{ archive one $way && archive two $way; } >both
	echo "lsinitramfs, two archives by $way"
	list=$(lsinitramfs both)
	has yes "$list" first
	has no "$list" second
	rm -rf unpacked
	unmkinitramfs both unpacked
	[ -e unpacked/first ] && [ ! -e unpacked/second ]
	echo "lsinitrd, two archives by $way"
	list=$(bash root/usr/bin/lsinitrd both 2>/dev/null)
	has yes "$list" first
	has no "$list" second
done
{ archive one cat && archive two xz --check=crc32; } >both
echo "lsinitramfs, the first archive not compressed"
list=$(lsinitramfs both)
has yes "$list" first
has yes "$list" second
