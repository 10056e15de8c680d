#!/bin/sh
# generators.sh initramfs-tools|dracut TREE LAYERFS OUT: builds an initramfs with a
# distribution's own generator and our integration, inside a throw-away copy of TREE, as an
# administrator would who builds initramfs images in the system's image.
# LAYERFS is the static client; dracut is installed from the host's apt sources.
set -eu
kind=${1:?initramfs-tools or dracut}
tree=${2:?tree}
client=${3:?static layerfs}
out=${4:?file to write}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/var/tmp}/layerfs-generators.XXXXXX")
root=$work/root
cleanup() {
    for point in proc dev sys; do umount "$root/$point" 2> /dev/null || :; done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT INT TERM
cp -a --reflink=auto "$tree" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "$root/dev/${node%:*}" c 1 "${node#*:}"; done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm"

kernel=$(find "$root/lib/modules" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -V | tail -n 1)
install -D -m 755 "$client" "$root/usr/lib/layerfs/layerfs-static"
case $kind in
    initramfs-tools)
        "$here/../../initrd/install" "$root"
        printf 'MODULES=most\nCOMPRESS=zstd\nCOMPRESSLEVEL=3\n' > "$root/etc/initramfs-tools/conf.d/layerfs-test"
        chroot "$root" mkinitramfs -o /initramfs "$kernel" ;;
    dracut)
        cp /etc/resolv.conf "$root/etc/resolv.conf"
        cp -r /etc/apt/. "$root/etc/apt/"
        chroot "$root" sh -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends dracut-core dracut-network isc-dhcp-client iputils-arping zstd' > "$work/apt.log" 2>&1 ||
            { tail -n 20 "$work/apt.log" >&2; exit 1; }
        "$here/../../initrd/install" "$root"
        chroot "$root" dracut --no-hostonly --force --add "layerfs network-legacy" --omit "plymouth lvm mdraid dmraid crypt btrfs multipath iscsi nfs resume kernel-modules-extra i18n" \
            --compress "zstd -3" --no-early-microcode /initramfs "$kernel" > "$work/dracut.log" 2>&1 ||
            { tail -n 20 "$work/dracut.log" >&2; exit 1; }
        grep -iE 'layerfs|error' "$work/dracut.log" || : ;;
    *) echo "generators.sh: $kind: initramfs-tools or dracut" >&2; exit 2 ;;
esac
cp "$root/initramfs" "$out"
ls -l "$out"
