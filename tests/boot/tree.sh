#!/bin/sh
# tree.sh OUT [FROM]: the Debian tree of the boot tests: benches/trees/build.sh minimal (or a
# copy of an earlier tree FROM) with a root shell on ttyS1, through which the
# tests inspect the running machine, a small package to install, and a set-user-id check.
# Needs root and the packages mmdebstrap, kmod.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?directory to make}
from=${2-}
[ ! -e "$out" ] || { echo "tree.sh: $out exists; remove it or name another directory" >&2; exit 2; }
if [ -n "$from" ]; then
    mkdir "$out"
    cp -a --reflink=auto "$from/." "$out"
else
    "$here/../../benches/trees/build.sh" minimal "$out"
fi

cat > "$out/etc/systemd/system/test-shell.service" <<'X'
[Unit]
Description=Root shell on ttyS1 for the boot tests
DefaultDependencies=no
After=systemd-remount-fs.service dev-ttyS1.device
Conflicts=shutdown.target

[Service]
Type=simple
Environment=HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WorkingDirectory=/root
ExecStart=/bin/bash --norc --noprofile --noediting
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
# An interactive bash ignores SIGTERM.
KillSignal=SIGKILL

[Install]
WantedBy=multi-user.target
X
mkdir -p "$out/etc/systemd/system/multi-user.target.wants"
ln -sf ../test-shell.service "$out/etc/systemd/system/multi-user.target.wants/test-shell.service"
# agetty would hang the console up, and later messages of the kernel would be lost.
ln -sf /dev/null "$out/etc/systemd/system/serial-getty@ttyS0.service"
# systemd-networkd keeps the network of the initramfs (docs/BOOT.md).
ln -sf /usr/lib/systemd/system/systemd-networkd.service "$out/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"

# A user for the set-user-id check: su must become root from there.
chroot "$out" useradd --create-home --shell /bin/bash tester
sed -i '1i auth sufficient pam_succeed_if.so use_uid user = tester' "$out/etc/pam.d/su"

# A package with a maintainer script, for `dpkg --install` in the machine.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
mkdir -p "$work/p/DEBIAN" "$work/p/usr/bin" "$work/p/usr/share/layerfs-probe"
cat > "$work/p/DEBIAN/control" <<'X'
Package: layerfs-probe
Version: 1.0
Architecture: all
Maintainer: layerfs tests <nobody@example.org>
Description: something to install in a boot test
X
printf '#!/bin/sh\nset -e\necho configured > /var/lib/layerfs-probe.state\nuseradd --system --user-group --no-create-home layerfs-probe\n' > "$work/p/DEBIAN/postinst"
printf '#!/bin/sh\necho probe 1.0\n' > "$work/p/usr/bin/layerfs-probe"
chmod 755 "$work/p/DEBIAN/postinst" "$work/p/usr/bin/layerfs-probe"
seq 1 20000 > "$work/p/usr/share/layerfs-probe/data"
dpkg-deb --root-owner-group --build "$work/p" "$out/root/layerfs-probe.deb" > /dev/null
