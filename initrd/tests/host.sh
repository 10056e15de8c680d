# shellcheck shell=sh
# The host of an integration test: a directory that represents "/" of an initramfs. The scripts
# under test are copied there with absolute paths into it; the commands they call record
# their arguments.
# shellcheck disable=SC2016  # the programs expand their own variables
HOST=$SCRATCH/host
lf_sys=$HOST/sys
export HOST lf_sys

# host_begin DATA-DIRECTORY
host_begin() {
    mkdir -p "$HOST/bin" "$HOST/lib/layerfs" "$HOST/.initrd/killall" "$HOST/run" "$HOST/dev"
    mkdir -p "$HOST/etc" "$HOST/sys/class/net" "$HOST/tmp"
    : > "$HOST/dev/fuse"; : > "$HOST/dev/kmsg"; : > "$HOST/dev/console"
    cp -r "$1/." "$HOST/"
    cp "$LIB"/*.sh "$INITRD/shutdown" "$HOST/lib/layerfs/"
    find "$HOST/lib" -type f -exec sed -i \
        -e "s,/\.initrd/,$HOST/.initrd/,g" -e "s,/lib/layerfs,$HOST/lib/layerfs,g" -e "s,/run/,$HOST/run/,g" \
        -e "s,/dev/fuse,$HOST/dev/fuse,g" -e "s,/dev/kmsg,$HOST/dev/kmsg,g" -e "s,/dev/console,$HOST/dev/console,g" \
        -e "s,/etc/resolv.conf,$HOST/etc/resolv.conf,g" \
        {} +
    host_program mount 'echo "mount $*" | sed "s,$HOST,,g"; for last; do :; done; echo "$last" >> "$HOST/mounted"'
    host_program umount 'echo "umount $*" | sed "s,$HOST,,g"'
    host_program mountpoint 'for last; do :; done; grep -qx "$last" "$HOST/mounted" 2> /dev/null'
    # Addresses and routes are those in $HOST/addresses and $HOST/routes.
    host_program ip 'case "$*" in *addr*) cat "$HOST/addresses" 2> /dev/null ;; *route*) cat "$HOST/routes" 2> /dev/null ;; esac; true'
    host_program modprobe 'echo "modprobe $*"'
    host_program dmesg ':'
    host_program chroot ':'
    host_program busybox ':'
    # The client: makes a root with an init, and a daemon to be spared; refuses "broken".
    host_program layerfs 'case "$*" in "initramfs warm"*) echo "layerfs $*" | sed "s,$HOST,,g" > "$HOST/warmed.new"; mv "$HOST/warmed.new" "$HOST/warmed"; exit ;; esac
echo "layerfs $*" | sed "s,$HOST,,g" >> "$HOST/calls"
case "$*" in *broken*) exit 1 ;; esac
for last; do :; done
mkdir -p "$last/sbin"; echo "$$" > "$HOST/daemon"
: > "$last/sbin/init"; chmod 755 "$last/sbin/init"; echo "$last" >> "$HOST/mounted"
echo ready'
    # make-initrd, bootchain and pipeline.
    host_program initrd-sh-functions 'omit_pid() { : > "$HOST/.initrd/killall/$1"; }; message() { echo "message: $*" | sed "s,$HOST,,g"; }'
    host_program network-sh-functions 'is_loopback() { [ "$1" = lo ]; }'
    host_program uevent-sh-functions 'make_event() { mktemp "$HOST/.initrd/event.XXXXXX"; }
release_event() { mv "$2" "$HOST/events/$1.1"; }
done_event() { rm "$1"; }'
    host_program environ 'echo "INTERFACE=$INTERFACE"'
    functions='get_parameter() { eval "echo \"\${$1$callnum-}\""; }; omit_pid() { : > "$HOST/.initrd/killall/$1"; }'
    host_program bootchain-sh-functions "$functions"
    host_program pipeline-sh-functions "$functions"
}

# host_program NAME TEXT
host_program() {
    printf '#!/bin/sh\n%s\n' "$2" > "$HOST/bin/$1"
    chmod 755 "$HOST/bin/$1"
}

# host COMMAND…: runs it with the host's programs and shows the client's calls after it.
host() {
    : > "$HOST/calls"
    code=0
    PATH="$HOST/bin:$PATH" PROC_CMDLINE="$HOST/cmdline" "$@" > "$HOST/said" 2>&1 || code=$?
    cat "$HOST/said" "$HOST/calls" | sed "s,$HOST,,g"
    return "$code"
}

# host_spared: the processes that the end of the initramfs spares, with the call of `layerfs initramfs warm`.
host_spared() {
    warms=
    daemon=$(cat "$HOST/daemon" 2> /dev/null)
    for path in "$HOST/.initrd/killall"/*; do
        case ${path##*/} in '*') ;; "$daemon") echo "spared: the daemon" ;; *) warms=yes ;; esac
    done
    [ "$warms" ] || return 0
    tries=0
    while [ ! -e "$HOST/warmed" ] && [ "$tries" -lt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
    echo "spared: $(cat "$HOST/warmed")"
    rm -f "$HOST/warmed"
}
