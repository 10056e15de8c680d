#!/bin/sh
# generators.sh initramfs-tools|dracut TREE LAYERFS TRUST OUT: builds an initramfs with a
# distribution's own generator and our integration, inside a throw-away copy of TREE, as an
# administrator does for initramfs images in the system's image.
# LAYERFS is the static client, TRUST the store's allowed_signers. A dracut that is not in the tree is
# installed from this host's apt sources. Needs root.
set -eu
kind=${1:?initramfs-tools or dracut}
tree=${2:?tree}
client=${3:?static layerfs}
trust=${4:?allowed_signers of the store}
out=${5:?file to write}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/boot/inside.sh
. "$here/inside.sh"
work=$(mktemp -d "${TMPDIR:-/var/tmp}/layerfs-generators.XXXXXX")
root=$work/root
cleanup() {
    inside_close "$root"
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT INT TERM
cp -a --reflink=auto "$tree/." "$root"
inside_open "$root"

kernel=$(find "$root/lib/modules" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -V | tail -n 1)
install -D -m 755 "$client" "$root/usr/lib/layerfs/layerfs-static"
install -D -m 644 "$trust" "$root/etc/layerfs/trust/root.allowed_signers"
run() {
    chroot "$root" "$@" > "$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
    grep -iE 'layerfs|error|warn' "$work/log" || :
}
case $kind in
    initramfs-tools)
        "$here/../../initrd/install" "$root"
        printf 'MODULES=most\nCOMPRESS=zstd\nCOMPRESSLEVEL=3\n' > "$root/etc/initramfs-tools/conf.d/layerfs-test"
        run mkinitramfs -o /initramfs "$kernel" ;;
    dracut)
        [ -e "$root/usr/bin/dracut" ] || inside_apt "$root" dracut-core dracut-network isc-dhcp-client iputils-arping zstd
        "$here/../../initrd/install" "$root"
        # dracut 112 makes "zstd -3" a level 15, which takes minutes.
        run dracut --no-hostonly --force --add "layerfs${NETWORK:+ $NETWORK}" \
            --omit "plymouth lvm mdraid dmraid crypt btrfs multipath iscsi nfs resume kernel-modules-extra i18n" \
            --no-compress --no-early-microcode /initramfs.cpio "$kernel"
        zstd -q --rm -T0 -3 "$root/initramfs.cpio" -o "$root/initramfs" ;;
    *) echo "generators.sh: $kind: initramfs-tools or dracut" >&2; exit 2 ;;
esac
cp "$root/initramfs" "$out"
ls -l "$out"
