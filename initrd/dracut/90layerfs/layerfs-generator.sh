#!/bin/sh
# systemd generator in the initramfs: systemd-fstab-generator takes root=layerfs:… for a device
# and would wait for it in sysroot.mount. A unit of that name in the early directory wins: it
# is masked, since the root is mounted by /sbin/layerfsroot.
# shellcheck source=/dev/null
. /lib/layerfs/cmdline.sh
lf_parse "$(cat /proc/cmdline)"
[ "$lf_root" = layerfs ] || exit 0
[ -n "$2" ] && ln -sf /dev/null "$2/sysroot.mount"
