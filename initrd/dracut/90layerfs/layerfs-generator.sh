#!/bin/sh
# systemd generator in the initramfs: systemd-fstab-generator mistakes root=layerfs:… for a device name.
# A unit in the early directory overrides its sysroot.mount: this one waits for no device. dracut's
# queue mounts the root (/sbin/layerfsroot), so the unit is active before it is started; otherwise the
# unit fails, and dracut's emergency shell reports it. initrd-root-fs.target and, since systemd 254,
# initrd-usr-fs.target require it: a mask in its place would keep both from ever being reached.
# shellcheck source=/dev/null
. /lib/layerfs/cmdline.sh
lf_parse "$(cat "${PROC_CMDLINE:-/proc/cmdline}")"
[ "$lf_root" = layerfs ] || exit 0
[ -n "$2" ] || exit 0
cat > "$2/sysroot.mount" <<'Y'
[Unit]
Description=layerfs root, mounted by dracut's queue
Before=initrd-root-fs.target
After=dracut-initqueue.service dracut-pre-mount.service

[Mount]
Where=/sysroot
What=layerfs
Type=fuse.layerfs
Y
mkdir -p "$2/initrd-root-fs.target.requires"
ln -sf ../sysroot.mount "$2/initrd-root-fs.target.requires/sysroot.mount"
