#!/bin/sh
# Makes a Debian live ISO with Debian's own live-build, for the tests of import and boot:
#   tests/boot/live.sh DIRECTORY [SUITE] [MIRROR] [SECURITY-MIRROR]
# The result is DIRECTORY/live.iso. A second call keeps existing files. Needs root and the packages
# live-build and debootstrap. Everything that is not named here is live-build's default.
set -eu
directory=$1
suite=${2:-bookworm}
mirror=${3:-http://deb.debian.org/debian/}
security=${4:-http://deb.debian.org/debian-security/}

if [ -e "$directory/live.iso" ]; then
    exit 0
fi
mkdir -p "$directory/build"
cd "$directory/build"
lb config --distribution "$suite" --architectures amd64 \
    --mirror-bootstrap "$mirror" --mirror-binary "$mirror" \
    --mirror-chroot-security "$security" --mirror-binary-security "$security" \
    --apt-recommends false --apt-indices false --firmware-chroot false --memtest none \
    --bootappend-live 'boot=live components quiet username=visitor hostname=classroom'
mkdir -p config/package-lists
cat > config/package-lists/system.list.chroot <<'LIST'
live-boot
live-config
live-config-systemd
systemd-sysv
user-setup
sudo
iproute2
fuse3
openssh-client
busybox
zstd
LIST
lb build
mv ./*.iso "$directory/live.iso"
