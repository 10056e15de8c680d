# shellcheck shell=sh
# Sourced by the scripts that run a distribution's own programs inside a tree.
#   inside_open ROOT              mounts /proc, /sys and a small /dev
#   inside_close ROOT             unmounts them
#   inside_apt ROOT PACKAGE…      installs from this host's apt sources, and leaves no trace of them

inside_open() {
    mount -t proc proc "$1/proc"
    mount -t sysfs -o ro sysfs "$1/sys"
    mount -t tmpfs -o mode=755 dev "$1/dev"
    for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "$1/dev/${node%:*}" c 1 "${node#*:}"; done
    ln -s /proc/self/fd "$1/dev/fd"
    mkdir "$1/dev/shm"
}

inside_close() {
    for point in proc dev sys; do
        ! mountpoint -q "$1/$point" || umount "$1/$point"
    done
}

inside_apt() (
    root=$1
    shift
    kept=$(mktemp -d)
    cp -a "$root/etc/apt" "$root/etc/resolv.conf" "$kept/"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    rm -rf "$root/etc/apt/sources.list" "$root/etc/apt/sources.list.d"
    cp -r /etc/apt/. "$root/etc/apt/"
    # No service is started in a tree.
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    code=0
    chroot "$root" sh -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends --allow-remove-essential "$@" && apt-get clean' sh "$@" > "$kept/log" 2>&1 || code=$?
    [ "$code" = 0 ] || tail -n 20 "$kept/log" >&2
    rm -rf "$root/etc/apt" "$root/etc/resolv.conf" "$root/usr/sbin/policy-rc.d" "$root"/var/lib/apt/lists/*
    cp -a "$kept/apt" "$kept/resolv.conf" "$root/etc/"
    rm -rf "$kept"
    return "$code"
)
