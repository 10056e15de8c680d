#!/bin/sh
# loaders.sh DIR: the boot loaders of Debian that tests/boot/loaders.py starts, unpacked from their packages below DIR: GRUB of
# bookworm (2.06) and of trixie (2.12), lpxelinux and UEFI firmware. Nothing is installed. Needs root: grub-mkimage of another
# release runs in a chroot.
set -eu
dir=$1
keys=/usr/share/keyrings/debian-archive-keyring.gpg
programs="grub-common grub-pc-bin grub-efi-amd64-bin libc6 liblzma5 libdevmapper1.02.1 libselinux1 libpcre2-8-0 libudev1 libcap2"

fetch() { # SUITE PACKAGE…
	suite=$1
	shift
	root=$dir/$suite
	[ ! -e "$root/complete" ] || return 0
	rm -rf "$root"
	mkdir -p "$root/apt/lists/partial" "$root/apt/cache/archives/partial" "$root/tree"
	# Independent of the packages installed on this machine.
	: >"$root/apt/status"
	echo "deb [signed-by=$keys] http://deb.debian.org/debian $suite main" >"$root/apt/sources.list"
	set -- "$root" "$@"
	apt=$root/apt
	options="-qq -o Dir::Etc::SourceList=$apt/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$apt/lists
		-o Dir::State::status=$apt/status -o Dir::Cache=$apt/cache -o APT::Architecture=amd64 -o APT::Sandbox::User=root"
	shift
	# shellcheck disable=SC2086 # options
	apt-get $options update
	# shellcheck disable=SC2086
	(cd "$apt" && apt-get $options download "$@")
	for package in "$apt"/*.deb; do
		dpkg-deb -x "$package" "$root/tree"
	done
	# For trees without a complete merged /usr.
	for link in bin lib lib64; do
		[ -e "$root/tree/$link" ] || ln -s "usr/$link" "$root/tree/$link"
	done
	rm -r "$apt"
	touch "$root/complete"
}

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
# shellcheck disable=SC2086 # a list
fetch bookworm $programs pxelinux syslinux-common syslinux-utils ovmf
# shellcheck disable=SC2086
fetch trixie $programs
