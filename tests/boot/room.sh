#!/bin/sh
# room.sh COMMAND…: runs COMMAND as if on a machine of its own that looks like this one. The root is an overlay on this
# machine's root, so the command may install programs, accounts and services without effect on this machine. The
# network is loopback alone, so every port is free. The work tree is shared. Everything the command started ends with it.
# Needs root and overlayfs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
if [ "${1-}" != --inside ]; then
    [ "$(id -u)" = 0 ] || { echo "room.sh: must be root" >&2; exit 2; }
    room=$(mktemp -d /var/tmp/layerfs-room.XXXXXX)
    trap 'rm -rf --one-file-system "$room"' EXIT
    # unshare passes over SIGTERM, and so does the first process of a PID namespace.
    trap 'kill -KILL $!; exit 1' INT TERM
    unshare --mount --net --pid --fork --kill-child "$0" --inside "$room" "$@" &
    wait $!
    exit
fi
room=$2
shift 2
ip link set lo up
mkdir -p "$room/upper" "$room/work" "$room/root"
mount -t overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" overlay "$room/root"
# Other mounts of this machine are not part of the overlay.
for place in /dev /sys /tmp "$top"; do
    mkdir -p "$room/root$place"
    mount --rbind "$place" "$room/root$place"
done
mount -t proc proc "$room/root/proc"
mount -t tmpfs -o mode=755 run "$room/root/run"
# shellcheck disable=SC2016 # for the shell inside
exec chroot "$room/root" sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
