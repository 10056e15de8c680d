# shellcheck shell=sh
# The writable side of a boot: the upper (a tmpfs or a disk), the cache and the backup, mounted
# under /run/initramfs, which moves into the running system with /run and which systemd does not
# unmount at shutdown: the daemon still writes there. /run/layerfs has links. Uses message.sh and network.sh.
#
# shellcheck disable=SC2034,SC2154  # variables are shared with cmdline.sh and init

lf_run=/run/initramfs/layerfs

# lf_place: mounts a separate file system on /run/initramfs for all this and, later, for the shutdown
# program, because /run may be noexec. In our own initramfs it is a directory of that (lf_exit_kept),
# in others a tmpfs. Called before anything is mounted below it.
lf_place() {
    mkdir -p /run/initramfs /run/layerfs
    if ! mountpoint -q /run/initramfs 2> /dev/null; then
        { [ -n "$lf_exit_kept" ] && mkdir -p "$lf_exit_kept" && mount --bind "$lf_exit_kept" /run/initramfs; } || {
            lf_exit_kept=
            mount -t tmpfs -o mode=755,size=32m layerfs-exit /run/initramfs || { lf_why="cannot mount a tmpfs on /run/initramfs"; return 1; }
        }
    fi
    mkdir -p "$lf_run/upper" "$lf_run/cache" "$lf_run/backup" "$lf_run/lower"
    for lf_name in upper cache backup lower; do
        [ -L "/run/layerfs/$lf_name" ] || { ln -sfn "$lf_run/upper" "$lf_run/cache" "$lf_run/backup" "$lf_run/lower" /run/layerfs/; break; }
    done
}

# lf_device SPEC: prints the device node; 1 = it does not exist (yet).
lf_device() {
    case $1 in
        /dev/*) [ -b "$1" ] && echo "$1" ;;
        LABEL=* | UUID=*)
            lf_node=$(findfs "$1" 2> /dev/null) || lf_node=$(blkid -l -o device -t "$1" 2> /dev/null) || return 1
            [ -n "$lf_node" ] && echo "$lf_node" ;;
        PARTUUID=* | PARTLABEL=*)
            lf_key=${1%%=*}
            for lf_path in /sys/class/block/*; do
                lf_name=$(sed -n "s/^$([ "$lf_key" = PARTUUID ] && echo PARTUUID || echo PARTNAME)=//p" "$lf_path/uevent" 2> /dev/null)
                [ "$lf_name" != "${1#*=}" ] || { echo "/dev/${lf_path##*/}"; return 0; }
            done
            return 1 ;;
        *) return 1 ;;
    esac
}

# lf_wait_device SPEC SECONDS
lf_wait_device() {
    lf_tries=0
    while :; do
        lf_device "$1" && return 0
        lf_tries=$((lf_tries + 1))
        [ "$lf_tries" -lt $(($2 * 5)) ] || return 1
        # Controllers first, their devices in the next rounds.
        [ $((lf_tries % 10)) != 1 ] || lf_load_drivers '^pci:.*bc(01|0C03)|^virtio:d0000000[28]|^scsi:|^usb:.*ic08|^nvme:'
        sleep 0.2
    done
}

# lf_mount_disk SPEC DIR SECONDS: mounts the first matching file system. 1 = failure, lf_why is set.
lf_mount_disk() {
    ! mountpoint -q "$2" 2> /dev/null || return 0     # a second try
    lf_unpack
    lf_node=$(lf_wait_device "$1" "$3") || { lf_why="no disk $1 after $3 s"; return 1; }
    mkdir -p "$2"
    for lf_type in ext4 xfs btrfs f2fs vfat; do
        if mount -t "$lf_type" -o noatime "$lf_node" "$2" 2> /dev/null; then
            lf_info "$2: $1 is $lf_node, $lf_type"
            return 0
        fi
    done
    lf_why="$1 ($lf_node) has no file system that this initramfs can mount (ext4, xfs, btrfs, f2fs, vfat)"
    return 1
}

# lf_tmpfs DIR [SIZE]
lf_tmpfs() {
    mkdir -p "$1"
    ! mountpoint -q "$1" 2> /dev/null || return 0
    mount -t tmpfs -o "mode=755${2:+,size=$2}" layerfs "$1" || { lf_why="cannot mount a tmpfs${2:+ of size $2} on $1"; return 1; }
}

# Each function mounts the disk that the command line names. A missing upper stops the boot, because
# the user's changes would be lost; a missing cache or backup does not.
lf_upper_up() {
    lf_place || return 1
    lf_upper_dir=$lf_run/upper
    case $lf_upper in
        none) lf_upper_dir=; return 0 ;;
        tmpfs) lf_tmpfs "$lf_upper_dir" "$lf_upper_size" || return 1 ;;
        *)
            if ! lf_mount_disk "$lf_upper" "$lf_upper_dir" 15; then
                [ -n "$lf_upper_optional" ] || return 1
                lf_warn "$lf_why: changes are stored in memory only"
                lf_tmpfs "$lf_upper_dir" || return 1
            fi ;;
    esac
    # The names that altboot's clients know: /.rw/rw is the upper.
    mkdir -p "$lf_upper_dir/rw" "$lf_upper_dir/wk" || { lf_why="$lf_upper: cannot be written"; return 1; }
}

lf_cache_up() {
    lf_cache_dir=
    case $lf_cache in
        '' | none | ram) return 0 ;;     # the client's own, in its memory
        *)
            if lf_mount_disk "$lf_cache" "$lf_run/cache" 15; then
                lf_cache_dir=$lf_run/cache/layerfs-cache
                mkdir -p "$lf_cache_dir" && return 0
                lf_why="$lf_cache: cannot be written"
            fi ;;
    esac
    lf_cache_dir=
    lf_warn "layerfs.cache: $lf_why: continuing without a cache"
}

lf_backup_up() {
    lf_backup_dir=
    [ -n "$lf_backup" ] || return 0
    if [ "$lf_backup" = "$lf_cache" ] && [ -n "$lf_cache_dir" ]; then
        lf_backup_dir=$lf_run/cache/layerfs-backup
    elif [ "$lf_backup" = "$lf_upper" ] && [ -n "$lf_upper_dir" ]; then
        lf_backup_dir=$lf_upper_dir/layerfs-backup
    elif lf_mount_disk "$lf_backup" "$lf_run/backup" 15; then
        lf_backup_dir=$lf_run/backup/layerfs-backup
    fi
    if [ -n "$lf_backup_dir" ] && ! mkdir -p "$lf_backup_dir"; then
        lf_why="$lf_backup: cannot be written"
        lf_backup_dir=
    fi
    [ -n "$lf_backup_dir" ] || lf_warn "layerfs.backup: $lf_why: continuing without a backup"
}
