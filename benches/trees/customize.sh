#!/bin/sh
# customize.sh ROOT: called by build.sh inside mmdebstrap, last.
set -eu
root=$1; here=$(cd "$(dirname "$0")" && pwd)
echo bench > "$root/etc/hostname"
printf '127.0.0.1 localhost bench\n' > "$root/etc/hosts"
: > "$root/etc/fstab"
: > "$root/etc/machine-id"
rm -f "$root/etc/resolv.conf"; : > "$root/etc/resolv.conf"
# A diskless client boots the initrd its server gives it.
printf 'update_initramfs=no\n' > "$root/etc/initramfs-tools/update-initramfs.conf"
rm -f "$root"/boot/initrd.img* "$root"/initrd.img*
install -m 755 "$here/marker.sh" "$root/usr/local/sbin/bench-marker"
install -m 644 "$here/marker.service" "$root/etc/systemd/system/bench-marker.service"
chroot "$root" systemctl enable bench-marker.service
chroot "$root" systemctl set-default multi-user.target
# Noise that has nothing to do with the file system under test
for u in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_reap.service fstrim.timer man-db.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$u"
done
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
