#!/bin/sh
# rivals.sh TREE OUT [N]: the images and the initramfs with which the rivals boot
# TREE (a `minimal` of ../trees/build.sh): OUT/base.squashfs (zstd 15, 128 KiB),
# OUT/base-1m.squashfs (zstd 22, 1 MiB), OUT/plain.erofs (uncompressed: traces),
# OUT/l1.squashfs … lN.squashfs and OUT/layers/lN (default 30), OUT/vmlinuz, OUT/initrd.
# /boot stays outside: the boot loader fetches it.
# Needs root and busybox-static squashfs-tools erofs-utils kmod cpio zstd xz-utils python3.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=${1:?tree}; out=${2:?output directory}; count=${3:-30}
[ -d "$tree/boot" ] || { echo "rivals.sh: $tree is no root tree" >&2; exit 2; }
[ ! -e "$out" ] || { echo "rivals.sh: $out exists; remove it or name another directory" >&2; exit 2; }
file -L "$(command -v busybox)" 2>/dev/null | grep -q 'dynamically' && { echo "rivals.sh: busybox is dynamic: install busybox-static" >&2; exit 2; }
mkdir -p "$out/layers"
quiet="-noappend -no-progress -quiet"
# shellcheck disable=SC2086
{
mksquashfs "$tree" "$out/base.squashfs" $quiet -comp zstd -Xcompression-level 15 -b 128K -e boot
[ -n "${NO_1M:-}" ] || mksquashfs "$tree" "$out/base-1m.squashfs" $quiet -comp zstd -Xcompression-level 22 -b 1M -e boot
mkfs.erofs -E noinline_data --exclude-path=boot "$out/plain.erofs" "$tree" > /dev/null
python3 "$here/slices.py" "$tree" "$out/layers" "$count"
i=1
while [ "$i" -le "$count" ]; do
    mksquashfs "$out/layers/l$i" "$out/l$i.squashfs" $quiet -comp zstd -Xcompression-level 15 -b 128K
    i=$((i + 1))
done
}
version=$(ls "$tree/lib/modules" | sort -V | tail -n 1)
cp "$tree/boot/vmlinuz-$version" "$out/vmlinuz"
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/sbin" "$work/usr/sbin" "$work/dev" "$work/proc" "$work/sys" "$work/run" "$work/etc" "$work/lib/modules/$version"
cp "$(command -v busybox)" "$work/bin/busybox"
install -m 755 "$here/init" "$work/init"
install -m 755 "$here/lease" "$work/etc/lease"
# The tree's nbd-client, else this machine's: it runs in the initramfs, with libraries of its own.
from=$tree
[ -e "$tree/usr/sbin/nbd-client" ] || from=/
cp "$from/usr/sbin/nbd-client" "$work/usr/sbin/"
chroot "$from" ldd /usr/sbin/nbd-client | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$work$(dirname "$library")"; cp -Ln "$from/$library" "$work$library"
done
cp "$tree/lib/modules/$version/modules.order" "$tree/lib/modules/$version/modules.builtin" "$work/lib/modules/$version/"
# In Debian 12's Linux 6.1 virtio_pci is a module, and no other module depends on it.
for module in crc32c_generic virtio_pci virtio_net virtio_blk virtio_rng loop squashfs erofs overlay nbd; do
    modprobe -d "$tree" -S "$version" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" {print $2}'
done | sort -u | while read -r path; do
    inside=lib/modules/${path#*/lib/modules/}
    mkdir -p "$work/$(dirname "$inside")"
    case $path in
    *.xz) xz -dc "$path" > "$work/${inside%.xz}" ;;
    *.zst) zstd -qdc "$path" > "$work/${inside%.zst}" ;;
    *) cp "$path" "$work/$inside" ;;
    esac
done
depmod -b "$work" "$version"
(cd "$work" && find . | sort | cpio -o -H newc --quiet | zstd -q -12) > "$out/initrd"
ls -l "$out" | awk 'NF > 5 {print $5, $NF}'
