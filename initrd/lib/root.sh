# shellcheck shell=sh
# Mounts the root and hands the machine over to it: the arguments of `layerfs mount` (pure), files
# with which the daemon survives switch_root and the shutdown, and files in /run for the running
# system. Uses cmdline.sh, message.sh and storage.sh; the adapters for make-initrd, bootchain, dracut
# and initramfs-tools use parts of it.
#
# shellcheck disable=SC2034,SC2154  # variables are shared with the files named above

lf_trust=${lf_trust:-/etc/layerfs/trust/root.allowed_signers}
# The pipe to which the daemon writes "ready". It is in /run, because systemd 256 and later make
# /usr of an initramfs read-only.
lf_pipe=${lf_pipe:-/run/layerfs/ready}
lf_filesystems=${lf_filesystems:-/proc/filesystems}

# lf_mount_arguments SOURCE DIR: one argument per line. Pure.
lf_mount_arguments() {
    lf_options=
    [ -z "$lf_upper_kernel" ] || lf_add overlay-lower
    [ -z "$lf_upper_dir" ] || [ -n "$lf_upper_kernel" ] || lf_options="upperdir=$lf_upper_dir/rw,workdir=$lf_upper_dir/wk"
    case $1 in
        *://*)
            [ ! -e "$lf_trust" ] || lf_add "keys=$lf_trust"
            for lf_item in $lf_mirror; do lf_add "mirror=$lf_item"; done
            [ -z "$lf_cache_dir" ] || lf_add "cache=$lf_cache_dir"
            [ -z "$lf_cache_size" ] || lf_add "cache-memory=$lf_cache_size"
            [ -z "$lf_backup_dir" ] || lf_add "backup=$lf_backup_dir"
            [ -z "$lf_report" ] || lf_add "report=$lf_report"
            [ -z "$lf_ring" ] || lf_add "ring=$lf_ring"
            [ -z "$lf_values" ] || lf_add "values=$lf_values"
            [ "$lf_timeout" = 0 ] || lf_add "timeout=$lf_timeout"
            case $lf_prefetch in
                no) lf_add prefetch=none ;;
                pack | all) lf_add "prefetch=$lf_prefetch" ;;
            esac ;;
    esac
    printf '%s\n' mount --supervised --root-duty
    [ -z "$lf_options" ] || printf '%s\n' -o "$lf_options"
    printf '%s\n' "$1" "$2"
}

lf_add() { lf_options=${lf_options:+$lf_options,}$1; }

# lf_run_layerfs SOURCE DIR: mounts. The daemon's name begins with @, which tells systemd and dracut
# that it serves the root. It logs to the kernel log, and writes "ready" when it has mounted. Sets
# lf_daemon to its process ID. 1 = failure, lf_why is set.
lf_run_layerfs() {
    mkdir -p /run/layerfs/bin
    # A shell without `exec -a` gives another name through a link.
    ln -sf "$(command -v layerfs)" /run/layerfs/bin/@layerfs ||
        { lf_why="cannot make a link in /run/layerfs/bin: is /run writable?"; return 1; }
    lf_arguments=$(lf_mount_arguments "$1" "$2")
    [ -p "$lf_pipe" ] || mkfifo "$lf_pipe" ||
        { lf_why="cannot make the pipe $lf_pipe, by which the client says that the root is mounted: is ${lf_pipe%/*} writable?"; return 1; }
    (
        # -1000 must be there before the daemon forks: children keep it.
        echo -1000 > /proc/self/oom_score_adj 2> /dev/null
        [ -z "$lf_debug" ] || export LAYERFS_LOG=debug
        PATH=/run/layerfs/bin:$PATH
        set -f
        IFS=$lf_nl
        # shellcheck disable=SC2086  # one argument per line
        exec @layerfs $lf_arguments > "$lf_pipe" 2> /dev/kmsg < /dev/null
    ) &
    lf_daemon=$!
    lf_word=
    read -r lf_word < "$lf_pipe" || :
    [ "$lf_word" != ready ] || return 0
    wait "$lf_daemon" || :
    lf_daemon=
    lf_why="layerfs could not mount $1 (its messages follow)"
    return 1
}

# lf_stack_root DIR: with layerfs.upper=…,kernel, lets the kernel's overlayfs stack the upper over the
# read-only mount; where it refuses, layerfs itself serves the upper. 1 = failure, lf_why is set.
lf_stack_root() {
    [ -n "$lf_upper_kernel" ] || return 0
    lf_doing "stacking the upper by the kernel's overlayfs"
    lf_stack "$1" && return 0
    lf_warn "layerfs.upper=…,kernel: $lf_why: layerfs serves the upper itself"
    umount "$lf_at"
    [ -z "$lf_daemon" ] || wait "$lf_daemon" || :
    lf_upper_kernel=
    lf_mount_root "$1" || return 1
    lf_warm "$1"
}

lf_has_overlay() { grep -q '[[:space:]]overlay$' "$lf_filesystems"; }

# lf_stack DIR: mounts overlayfs. An upper that layerfs wrote has metacopy and redirect marks, so both
# features are needed to read it. A module that the initramfs lacks comes from the system itself.
lf_stack() {
    lf_has_overlay || modprobe -q overlay 2> /dev/null || :
    lf_has_overlay || chroot "$lf_at" modprobe -q overlay 2> /dev/null || :
    lf_has_overlay || { lf_why="the kernel has no overlayfs"; return 1; }
    mount -t overlay -o "lowerdir=$lf_at,upperdir=$lf_upper_dir/rw,workdir=$lf_upper_dir/wk,redirect_dir=on,metacopy=on,index=off" layerfs "$1" ||
        { lf_why="overlayfs refuses the upper (its messages are in the kernel log)"; return 1; }
}

# lf_mount_root DIR: mounts the source of the command line, with layerfs.upper=…,kernel below $lf_run;
# sets lf_at to the mount point. If only profile= named a profile that the server does not have, mounts
# the base instead (altboot's rule), except with a pinned revision, which belongs to the profile.
lf_mount_root() {
    lf_at=$1
    [ -n "$lf_upper_dir" ] || lf_upper_kernel=
    [ -z "$lf_upper_kernel" ] || lf_at=$lf_run/lower
    lf_from=$(lf_source "$lf_server_found") || { lf_why=$lf_from; return 1; }
    lf_doing "mounting $lf_from"
    if lf_run_layerfs "$lf_from" "$lf_at"; then
        return 0
    fi
    lf_plain=$(lf_source_without_profile "$lf_server_found")
    if [ "$lf_plain" != "$lf_from" ] && [ "${lf_from%@*}" = "$lf_from" ]; then
        lf_warn "$lf_from cannot be mounted: trying $lf_plain, without profile=$lf_profile"
        lf_say "profile $lf_profile cannot be mounted: continuing without it"
        lf_from=$lf_plain
        lf_run_layerfs "$lf_from" "$lf_at" && return 0
    fi
    return 1
}

# lf_warm DIR: reads the boot pack into the page cache. While the mount is unused, pages are stored
# directly, until the program prints "ready" or ends (without a pack). It requests the rest during
# the boot, then ends. Because of its name the initramfs does not kill it at its end.
lf_warm() {
    case $lf_from in *://*) ;; *) return 0 ;; esac
    [ "$lf_prefetch" != no ] || return 0
    # A pipe of its own: the end of the first writer would be taken for the word of the second.
    rm -f "$lf_pipe"
    mkfifo "$lf_pipe" || return 0
    (exec /run/layerfs/bin/@layerfs initramfs warm --before-use "$1" < /dev/null > "$lf_pipe" 2> /dev/null) &
    [ ! -d /.initrd/killall ] || : > "/.initrd/killall/$!"   # make-initrd
    read -r lf_word < "$lf_pipe" || :
}

# lf_keep_alive: adds the daemon to every list of processes that a shutdown must spare.
lf_keep_alive() {
    mkdir -p /run/sendsigs.omit.d
    echo "$lf_daemon" >> /run/sendsigs.omit.d/layerfs        # Debian's sysvinit
    [ ! -d /.initrd/killall ] || : > "/.initrd/killall/$lf_daemon"   # make-initrd
}

# lf_exit_ramfs: fills /run/initramfs (mounted by lf_place) for the shutdown: after systemd has stopped
# all processes it moves there and runs `shutdown`, which unmounts the root.
lf_exit_ramfs() {
    lf_exit=/run/initramfs
    [ ! -x "$lf_exit/shutdown" ] || return 0
    # The client is in memory for the daemon's sake anyway: under another name it is the last program.
    # switch_root does not remove files below a mount.
    if [ -n "$lf_exit_kept" ]; then
        mkdir -p "$lf_exit/oldroot" "$lf_exit/proc" "$lf_exit/sys" "$lf_exit/dev" "$lf_exit/run" "$lf_exit/tmp"
        { ln "$(command -v layerfs)" "$lf_exit_kept/shutdown" && mount -t tmpfs -o size=4k,mode=700 layerfs-kept "$lf_exit_kept"; } ||
            lf_warn "the client cannot be copied: the shutdown continues without /run/initramfs"
        return 0
    fi
    # Not `command -v`: to busybox's shell every applet is a command without a path.
    lf_box=
    for lf_file in /bin/busybox /usr/bin/busybox /sbin/busybox /usr/sbin/busybox; do
        [ -n "$lf_box" ] || [ ! -x "$lf_file" ] || lf_box=$lf_file
    done
    [ -n "$lf_box" ] || { lf_warn "no busybox: the shutdown continues without /run/initramfs"; return 0; }
    # Few programs: the boot waits for each of them. Links for the other names are made at the end.
    mkdir -p "$lf_exit/bin" "$lf_exit/oldroot" "$lf_exit/proc" "$lf_exit/sys" "$lf_exit/dev" "$lf_exit/run" "$lf_exit/tmp"
    cp -L "$lf_box" "$lf_exit/bin/busybox"
    # Without a loader in this initramfs it is a static one.
    for lf_file in /lib64/ld-*.so* /lib/ld-*.so* /lib/*/ld-*.so* /usr/lib/ld-*.so* /usr/lib64/ld-*.so*; do
        [ -e "$lf_file" ] || continue
        chroot "$lf_exit" /bin/busybox true 2> /dev/null || lf_copy_libraries "$lf_exit"
        break
    done
    ln -sf busybox "$lf_exit/bin/sh"
    cp /lib/layerfs/shutdown "$lf_exit/shutdown" && chmod 755 "$lf_exit/shutdown"
}

# lf_copy_libraries DIR: copies the libraries of a dynamic busybox to the paths of the loader.
lf_copy_libraries() {
    for lf_file in /lib64/ld-*.so* /lib/ld-*.so* /lib/*/ld-*.so* /usr/lib/ld-*.so* /usr/lib64/ld-*.so* \
        /lib/*/libc.so.* /lib/*/libm.so.* /lib/*/libresolv.so.* /lib64/libc.so.* /lib64/libm.so.* /lib64/libresolv.so.* \
        /usr/lib/libc.so.* /usr/lib/libm.so.* /usr/lib/libresolv.so.* \
        /usr/lib64/libc.so.* /usr/lib64/libm.so.* /usr/lib64/libresolv.so.* /usr/lib/*/libc.so.* /usr/lib/*/libm.so.* /usr/lib/*/libresolv.so.*; do
        [ -f "$lf_file" ] || continue
        mkdir -p "$1${lf_file%/*}"
        [ -e "$1$lf_file" ] || cp -L "$lf_file" "$1$lf_file"
    done
    chroot "$1" /bin/busybox true 2> /dev/null || lf_warn "the busybox in $1 does not run: the shutdown may end without unmounting the root"
}

# lf_network_note ROOT: writes the boot's network configuration for systemd-networkd, so that it keeps
# and renews the address; writes name servers for a root without any.
lf_network_note() {
    lf_network_units
    lf_names=/run/layerfs/net/resolv.conf
    [ -s "$lf_names" ] || return 0
    lf_target=$(readlink "$1/etc/resolv.conf")
    case $lf_target in
        /run/* | ../run/*)
            lf_target=/run/${lf_target#*run/}
            [ -e "$lf_target" ] || { mkdir -p "${lf_target%/*}"; cp "$lf_names" "$lf_target"; } ;;
        '')
            if [ -e "$1/etc/resolv.conf" ]; then
                [ -s "$1/etc/resolv.conf" ] || mount --bind "$lf_names" "$1/etc/resolv.conf"
            elif [ -n "$lf_upper_dir" ] && [ -d "$1/etc" ]; then
                cp "$lf_names" "$1/etc/resolv.conf"
            fi ;;
    esac
}

# lf_soft_reboot_note: systemd's soft-reboot stops every process, including the daemon, but keeps
# running itself. Its program must then be in memory, or it waits for the daemon forever. A unit of
# the running system reads it just before. (At power-off systemd-shutdown has locked its memory.)
# /run/systemd/system must not exist: by it programs tell that systemd runs, and the scripts of
# sysvinit, OpenRC and runit would call systemctl.
lf_soft_reboot_note() {
    lf_unit_dir=/run/systemd/system.control
    [ -d "$lf_unit_dir/soft-reboot.target.d" ] || mkdir -p "$lf_unit_dir/soft-reboot.target.d" /run/systemd/network
    printf '[Unit]\nWants=layerfs-soft-reboot.service\nAfter=layerfs-soft-reboot.service\n' > "$lf_unit_dir/soft-reboot.target.d/layerfs.conf"
    {
        printf '[Unit]\nDescription=Read the first program of the layerfs root into memory\nDefaultDependencies=no\n'
        printf 'After=shutdown.target umount.target final.target\nBefore=systemd-soft-reboot.service\n\n[Service]\nType=oneshot\n'
        # shellcheck disable=SC2016  # systemd makes one $ of two
        printf '%s\n' 'ExecStart=/bin/sh -c '\''while read -r _ _ _ _ _ file; do case $$file in "$$last") ;; /*) cat "$$file"; last=$$file ;; esac; done < /proc/1/maps > /dev/null'\'
    } > "$lf_unit_dir/layerfs-soft-reboot.service"
}

# lf_network_units: one .network for each address. Not for a VLAN on the card, which has its address too.
lf_network_units() {
    # Only an adapter detects an earlier networkd.
    [ -z "${lf_only-}" ] && lf_adopt_networkd && return 0
    [ -d /run/systemd/network ] || mkdir -p /run/systemd/network
    for lf_file in /run/layerfs/net/*.lease; do
        [ -s "$lf_file" ] || continue
        lf_lease interface
        lf_link=$lf_value
        read -r lf_mac 2> /dev/null < "$lf_sys/class/net/$lf_link/address" || continue
        {
            if [ -e "$lf_sys/class/net/$lf_link/device" ]; then
                printf '[Match]\nType=ether\nMACAddress=%s\n' "$lf_mac"
            else
                printf '[Match]\nName=%s\n' "$lf_link"
            fi
            printf '\n[Network]\nKeepConfiguration=yes\n'
            if lf_lease lease; then
                printf 'DHCP=yes\n\n[DHCPv4]\nClientIdentifier=mac\n'
            else
                lf_lease router
                [ -z "$lf_value" ] || echo "Gateway=$lf_value"
                lf_lease ip
                printf 'Address=%s/' "$lf_value"
                lf_lease mask
                echo "$lf_value"
            fi
        } > "/run/systemd/network/05-layerfs-$lf_link.network"
    done
}

# lf_boot_note: records the boot for `layerfs status`, `layerfs push` and users.
lf_boot_note() {
    {
        echo "source=$lf_from"
        echo "upper=$lf_upper_dir"
        echo "cache=$lf_cache_dir"
        echo "backup=$lf_backup_dir"
    } > /run/layerfs/boot
}

# lf_altboot_places ROOT: mounts /.rw and /.ro if the tree has them (for altboot's clients).
lf_altboot_places() {
    if [ -d "$1/.rw" ] && [ -n "$lf_upper_dir" ]; then
        mount --bind "$lf_upper_dir" "$1/.rw" || lf_warn "/.rw cannot be bound"
    fi
}

# lf_check_root DIR: checks that the root has an executable init.
lf_check_root() {
    lf_seen=$lf_init
    lf_hops=0
    while [ -L "$1$lf_seen" ] && lf_link=$(readlink "$1$lf_seen"); do
        case $lf_link in /*) lf_seen=$lf_link ;; *) lf_seen=${lf_seen%/*}/$lf_link ;; esac
        lf_hops=$((lf_hops + 1))
        [ "$lf_hops" -lt 20 ] || break
    done
    [ -x "$1$lf_seen" ] || { lf_why="the root has no $lf_init that can be executed (${lf_seen}): is it a whole system? init= names another one"; return 1; }
}
