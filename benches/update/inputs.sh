#!/bin/sh
# inputs.sh OUT: old and new trees of the update bench, OUT/NAME/{old,new}, from Debian's archive as
# it is now.
#
#   point    Debian 12, a small system: the release suite, then with updates and security
#   kernel12 Debian 12, kernel image and modules (.ko; a subset of the drivers), likewise
#   kernel13 Debian 13, kernel image and modules (.ko.xz): the release suite, then with security
#   release  the same small system of Debian 13 and of sid
#   config   the old tree of "point", a line added to 40 files of /etc
#   renamed  the same with three directories of /usr renamed
#   one      the tree BIG (lab/trees/big, 45,019 entries), a line added to each 100th file; only by ONLY
#   five     the same, to each 20th file
#
# Packages are unpacked, not configured: the contents are those of the archive. Needs root and
# mmdebstrap. Trees that are there are kept. ONLY="point config" makes only these.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?directory to make}
[ "$(id -u)" = 0 ] || { echo "inputs.sh: must be root: a root tree holds files of other owners" >&2; exit 2; }
: "${SOURCES:=/etc/apt/sources.list.d/debian.sources}"
: "${ONLY:=point kernel12 kernel13 release config renamed}"
[ -f "$SOURCES" ] || { echo "inputs.sh: no $SOURCES: set SOURCES to a deb822 file of Debian sources" >&2; exit 2; }
mirror=$(sed -n 's/^URIs:[ ]*\([^ ]*\/debian\/\?\)$/\1/p' "$SOURCES" | head -n 1)
security=$(sed -n 's/^URIs:[ ]*\([^ ]*\/debian-security\/\?\)$/\1/p' "$SOURCES" | head -n 1)
[ -n "$mirror" ] || { echo "inputs.sh: $SOURCES names no mirror of Debian" >&2; exit 2; }
mkdir -p "$out"

# extract DIR PACKAGES SUITE [more]: unpacks the packages and what they depend on; "more": with the
# suites for updates and security
extract() {
    if [ -e "$1" ]; then return; fi
    sources="deb $mirror $3 main"
    if [ "${4:-}" = more ]; then
        sources="$sources
deb $mirror $3-updates main
deb ${security:-$mirror-security} $3-security main"
    fi
    printf '%s\n' "$sources" | mmdebstrap --quiet --mode=root --variant=extract --format=directory \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
        --include="$2" "$3" "$1.part" -
    rm -rf "$1.part/dev" "$1.part/usr/share/doc" "$1.part/var/cache" "$1.part/var/lib/apt"
    mv "$1.part" "$1"
}

# modules DIR: of a kernel package's tree, the kernel and a part of its modules
modules() {
    find "$1" -mindepth 1 -maxdepth 1 ! -name boot ! -name lib ! -name usr -exec rm -rf {} +
    for drivers in "$1"/lib/modules/*/kernel/drivers "$1"/usr/lib/modules/*/kernel/drivers; do
        [ -d "$drivers" ] || continue
        find "$drivers" -mindepth 1 -maxdepth 1 -type d ! -name net ! -name block ! -name nvme ! -name scsi \
            ! -name md ! -name ata ! -name virtio ! -name hid ! -name usb -exec rm -rf {} +
        rm -rf "$drivers/net/wireless"
    done
}

# lines TREE NTH: adds a line to each NTH file
lines() {
    find "$1" -type f | sort | awk -v nth="$2" 'NR % nth == 0' |
        while read -r file; do echo "# changed" >> "$file"; done
}

: "${BIG:=$here/../../lab/trees/big}"
packages=$(grep -v '^#' "$here/../trees/minimal.packages" | paste -sd,)
for name in $ONLY; do
    mkdir -p "$out/$name"
    old=$out/$name/old new=$out/$name/new
    case $name in
    point) extract "$old" "$packages" bookworm; extract "$new" "$packages" bookworm more ;;
    release) extract "$old" "$packages" trixie; extract "$new" "$packages" sid ;;
    kernel12)
        if [ ! -e "$old" ]; then extract "$old" linux-image-amd64 bookworm; modules "$old"; fi
        if [ ! -e "$new" ]; then extract "$new" linux-image-amd64 bookworm more; modules "$new"; fi ;;
    kernel13) extract "$old" linux-image-amd64 trixie; extract "$new" linux-image-amd64 trixie more ;;
    config)
        [ -e "$new" ] || {
            cp -a "$out/point/old" "$new.part"
            find "$new.part/etc" -type f -size -64k | sort | head -n 40 |
                while read -r file; do echo "# changed" >> "$file"; done
            mv "$new.part" "$new"
        }
        [ -e "$old" ] || ln -s ../point/old "$old" ;;
    renamed)
        [ -e "$new" ] || {
            cp -a "$out/point/old" "$new.part"
            for path in usr/share/perl usr/lib/python3.11 usr/share/zoneinfo; do
                [ ! -e "$new.part/$path" ] || mv "$new.part/$path" "$new.part/$path.moved"
            done
            mv "$new.part" "$new"
        }
        [ -e "$old" ] || ln -s ../point/old "$old" ;;
    one | five)
        [ -e "$new" ] || {
            mkdir "$new.part"
            cp -a "$BIG/." "$new.part"
            if [ "$name" = one ]; then lines "$new.part" 100; else lines "$new.part" 20; fi
            mv "$new.part" "$new"
        }
        [ -e "$old" ] || ln -s "$(realpath "$BIG")" "$old" ;;
    *) echo "inputs.sh: unknown input $name" >&2; exit 2 ;;
    esac
done
du -sm "$out"/*/old/ "$out"/*/new/
