#!/bin/sh
# build.sh minimal|big OUT: a real Debian root tree for the benches and the
# boot tests, made from the apt sources of this machine.
#
#   minimal  boots to multi-user.target in state "running"; kernel from
#            backports; prints BENCH-MARK lines on the serial console
#   big      >= 1 GB and >= 35,000 files; only the release suite, so that
#            update.sh has security updates to apply
#
# Needs root and the packages mmdebstrap, kmod. OUT must not exist.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kind=${1:?minimal or big}; out=${2:?directory to make}
[ "$(id -u)" = 0 ] || { echo "build.sh: must be root: a root tree holds files of other owners" >&2; exit 2; }
[ ! -e "$out" ] || { echo "build.sh: $out exists; remove it or name another directory" >&2; exit 2; }
: "${SUITE:=bookworm}"
: "${SOURCES:=/etc/apt/sources.list.d/debian.sources}"
[ -f "$SOURCES" ] || { echo "build.sh: no $SOURCES: set SOURCES to a deb822 file of Debian sources" >&2; exit 2; }
case $kind in
minimal) want="$SUITE $SUITE-updates $SUITE-security +$SUITE-backports"; kernel=linux-image-amd64/$SUITE-backports ;;
big)     want="$SUITE"; kernel= ;;
*)       echo "build.sh: unknown tree '$kind': minimal or big" >&2; exit 2 ;;
esac
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT INT TERM
awk -v code="$SUITE" -v want="$want" -f "$here/sources.awk" "$SOURCES" > "$work/tree.sources"
[ -s "$work/tree.sources" ] || { echo "build.sh: $SOURCES serves none of: $want" >&2; exit 2; }
packages=$(grep -v '^#' "$here/$kind.packages" | paste -sd,)
set -- --mode=root --variant=minbase --format=directory --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"; echo "COMPRESS=zstd" > "$1/etc/initramfs-tools/conf.d/zstd"'
[ "$kind" = big ] || set -- "$@" --dpkgopt='path-exclude=/usr/share/doc/*'
[ -z "$kernel" ] || set -- "$@" --customize-hook="chroot \"\$1\" env INITRD=No apt-get install -y --no-install-recommends $kernel"
INITRD=No mmdebstrap "$@" --customize-hook="sh '$here/customize.sh' \"\$1\"" "$SUITE" "$out" "$work/tree.sources"
echo "$kind: $(du -sxm --apparent-size "$out" | cut -f1) MiB, $(find "$out" -xdev -type f | wc -l) files, $(find "$out" -xdev | wc -l) entries"
