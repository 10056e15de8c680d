#!/bin/sh
# upper.sh upgrade|touch TREE OUT.tar.zst: what an administrator's overlayfs
# upper over TREE (a `big` of build.sh) looks like, packed with its attributes.
#
#   upgrade  apt full-upgrade to the suite's updates and security fixes (the
#            kernel held), as dpkg leaves it: changed and unchanged files alike
#   touch    chmod and touch of 10,000 files, nothing else
#
# Needs root, overlayfs and the packages util-linux, zstd. TREE stays as it is.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kind=${1:?upgrade or touch}; tree=${2:?tree}; out=${3:?output file}
[ "$(id -u)" = 0 ] || { echo "upper.sh: must be root: it mounts an overlay" >&2; exit 2; }
[ -d "$tree/etc" ] || { echo "upper.sh: $tree is no root tree" >&2; exit 2; }
case $kind in upgrade | touch) ;; *) echo "upper.sh: unknown upper '$kind': upgrade or touch" >&2; exit 2 ;; esac
: "${SUITE:=bookworm}"
: "${SOURCES:=/etc/apt/sources.list.d/debian.sources}"
if [ "${UPPER_INSIDE:-}" != 1 ]; then
    work=$(mktemp -d -p "${TMPDIR:-/var/tmp}"); trap 'rm -rf "$work"' EXIT
    mkdir "$work/upper" "$work/work" "$work/root"
    chmod --reference="$tree" "$work/upper"; chown --reference="$tree" "$work/upper"
    # A mount namespace of its own: every mount ends with it.
    UPPER_INSIDE=1 WORK=$work SUITE=$SUITE SOURCES=$SOURCES unshare --mount --propagation private sh "$0" "$@"
    tar --xattrs --xattrs-include='*' --numeric-owner --sort=name -C "$work/upper" -cf - . | zstd -q -3 -T0 -f -o "$out"
    echo "$kind: $(find "$work/upper" -type f | wc -l) files, $(find "$work/upper" -type c | wc -l) devices (whiteouts), $(du -sm --apparent-size "$work/upper" | cut -f1) MiB"
    exit 0
fi
root=$WORK/root
mount -t overlay -o "lowerdir=$tree,upperdir=$WORK/upper,workdir=$WORK/work,redirect_dir=off,metacopy=off,index=off" overlay "$root"
if [ "$kind" = touch ]; then
    find "$root/usr" -xdev -type f | sort | head -n 10000 > "$WORK/list"
    head -n 5000 "$WORK/list" | tr '\n' '\0' | xargs -0 chmod g+w
    tail -n 5000 "$WORK/list" | tr '\n' '\0' | xargs -0 touch -d @1700000000
    umount "$root"
    exit 0
fi
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind /dev "$root/dev"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mount --bind /etc/hosts "$root/etc/hosts"
mount -t tmpfs tmpfs "$root/var/cache/apt"
mount -t tmpfs tmpfs "$root/var/lib/apt/lists"
mkdir -p "$root/tmp/sources" "$root/var/cache/apt/archives/partial" "$root/var/lib/apt/lists/partial"
awk -v code="$SUITE" -v want="$SUITE $SUITE-updates $SUITE-security" -f "$here/sources.awk" "$SOURCES" > "$root/tmp/sources/tree.sources"
mount -t tmpfs tmpfs "$root/etc/apt/sources.list.d"
cp "$root/tmp/sources/tree.sources" "$root/etc/apt/sources.list.d/"
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"; chmod 755 "$root/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C INITRD=No
chroot "$root" apt-get -q -o Acquire::Check-Valid-Until=false update
chroot "$root" apt-mark hold 'linux-image-*' > /dev/null 2>&1 || true
chroot "$root" apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-confold full-upgrade
if [ -n "${REINSTALL:-}" ]; then
    chroot "$root" apt-get -q -y --reinstall install $REINSTALL
fi
rm "$root/usr/sbin/policy-rc.d"
