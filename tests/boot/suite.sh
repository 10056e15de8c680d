#!/bin/sh
# suite.sh SUITE OUT: the tree of the distribution tests: a release of Debian with the release's own kernel,
# both initramfs generators and the additions of tests/boot/tree.sh. It is installed from this machine's
# apt sources, by the suite's name, with the packages of benches/trees/minimal.packages.
# Needs root and the packages mmdebstrap, kmod.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
suite=${1:?suite}
out=${2:?directory to make}
trees=$here/../../benches/trees
: "${SOURCES:=/etc/apt/sources.list.d/debian.sources}"
[ "$(id -u)" = 0 ] || { echo "suite.sh: must be root: a root tree holds files of other owners" >&2; exit 2; }
[ ! -e "$out" ] || { echo "suite.sh: $out exists; remove it or name another directory" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
archive=$(sed -n 's/^URIs:[ \t]*\([^ ]*\/debian\)\/*$/\1/p' "$SOURCES" | head -n 1)
[ -n "$archive" ] || { echo "suite.sh: $SOURCES names no archive of Debian: set SOURCES to a deb822 file that does" >&2; exit 2; }
packages=$(grep -v -e '^#' -e '^nbd-client$' "$trees/minimal.packages" | paste -sd,)
printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$archive" "$suite" > "$work/suite.sources"
INITRD=No mmdebstrap --mode=root --variant=minbase --format=directory \
    --include="$packages,linux-image-amd64,dracut-core,dracut-network,iputils-arping" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --customize-hook="sh '$trees/customize.sh' \"\$1\"" "$suite" "$work/base" "$work/suite.sources"
"$here/tree.sh" "$out.part" "$work/base"
mv "$out.part" "$out"
