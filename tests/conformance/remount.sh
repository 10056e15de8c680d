#!/bin/sh
# remount.sh [SUITE]: mount(8) of a newer Debian (trixie: util-linux 2.41, which remounts by fsconfig(2)) with package fuse3
# installed, in a chroot: remounts of a layerfs, with and without a line in fstab, as systemd-remount-fs makes them.
# Needs root, mmdebstrap, /dev/fuse. The tree is kept in lab/trees/SUITE.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
suite=${1:-trixie}
tree=$here/../../lab/trees/$suite-mount
bin=${LAYERFS:-$here/../../target/release/layerfs}
bakery=${BAKERY:-$here/../../target/release/bakery}

if [ "${PRIVATE-}" != yes ]; then
    if [ ! -d "$tree" ]; then
        mkdir -p "$(dirname "$tree")"
        mmdebstrap --variant=essential --include=fuse3 "$suite" "$tree.new"
        mv "$tree.new" "$tree"
    fi
    PRIVATE=yes exec unshare -m --propagation private "$0" "$suite"
fi

scratch=$(mktemp -d)
mount -t tmpfs scratch "$scratch"
trap 'umount -l "$root/mnt" 2>/dev/null; umount -l "$scratch"; rmdir "$scratch"' EXIT INT TERM
root=$scratch/root
mkdir "$scratch/up" "$scratch/wk" "$scratch/lower" "$scratch/u" "$scratch/w" "$root"
mount -t overlay tree -o "lowerdir=$tree,upperdir=$scratch/up,workdir=$scratch/wk" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
install -m 755 "$bin" "$root/usr/bin/layerfs"
echo content > "$scratch/lower/f"
"$bakery" -q bake -o "$scratch/base.layer" "$scratch/lower"
"$bin" mount -o "upperdir=$scratch/u,workdir=$scratch/w" "$scratch/base.layer" "$root/mnt"

flags() { chroot "$root" findmnt -no OPTIONS /mnt | cut -d, -f1,2; }
expect() { # WANTED COMMAND…
    wanted=$1
    shift
    code=0
    said=$(chroot "$root" "$@" 2>&1) || code=$?
    [ "$code" = "$wanted" ] || { echo "remount.sh: $*: $code, not $wanted: $said" >&2; exit 1; }
}
shows() { [ "$(flags)" = "$1" ] || { echo "remount.sh: $(flags), not $1" >&2; exit 1; }; }

chroot "$root" mount --version
# Without our helper: package fuse3 has mount.fuse, which takes our name for a program of its kind.
rm -f "$root/usr/sbin/mount.layerfs" "$root/usr/sbin/mount.fuse.layerfs"
expect 2 mount -o remount,ro /mnt
for helper in mount.layerfs mount.fuse.layerfs; do ln -s ../bin/layerfs "$root/usr/sbin/$helper"; done
expect 0 mount -o remount,ro /mnt
shows ro,relatime
expect 0 mount -o remount,rw,noatime /mnt
shows rw,noatime
expect 0 mount -o remount,relatime /mnt
shows rw,relatime
# Allowed lines in fstab (docs/BOOT.md).
for line in "layerfs /mnt layerfs defaults,noatime 0 0" "none /mnt fuse.layerfs noatime 0 0" "none /mnt auto noatime 0 0"; do
    echo "$line" > "$root/etc/fstab"
    expect 0 mount -o remount /mnt
    shows rw,noatime
    expect 0 mount -o remount,relatime /mnt
done
for line in "/dev/vda1 /mnt ext4 errors=remount-ro 0 1" "UUID=0b0b0b0b-1111-2222-3333-444444444444 /mnt auto defaults 0 1"; do
    echo "$line" > "$root/etc/fstab"
    code=0
    chroot "$root" mount -o remount /mnt 2>/dev/null || code=$?
    [ "$code" != 0 ] || { echo "remount.sh: $line is taken now: mend docs/BOOT.md" >&2; exit 1; }
done
: > "$root/etc/fstab"
[ "$(cat "$root/mnt/f")" = content ]
echo "remount.sh: all as docs/BOOT.md says ($suite)"
