# shellcheck shell=sh
# Entry points for other initramfs (make-initrd, bootchain, dracut, initramfs-tools): they configure
# the network; all later steps are those of our own /init.
#
# shellcheck disable=SC1090,SC2034,SC2154  # the files beside this one, and their variables

lf_library=${lf_library:-/lib/layerfs}
for lf_part in message cmdline address network adopt storage root; do
    . "$lf_library/$lf_part.sh"
done

# lf_adapter COMMAND-LINE ROOT [SERVER]: mounts the layerfs root of this command line on ROOT.
# SERVER is the server from DHCP. Can be repeated after a failure; 1 = failure, lf_why is set.
lf_adapter() {
    lf_why=
    lf_server_found=${3-}
    lf_parse "$1"
    [ -z "$lf_error" ] || { lf_why=$lf_error; return 1; }
    echo "$lf_warnings" | while IFS= read -r lf_line; do [ -z "$lf_line" ] || lf_warn "$lf_line"; done
    modprobe -q fuse 2> /dev/null
    [ -e /dev/fuse ] || { lf_why="no /dev/fuse: the kernel has no fuse, built in or as a module in this initramfs"; return 1; }
    lf_upper_up || return 1
    lf_cache_up
    lf_backup_up
    lf_mount_root "$2" || { rm -f "$lf_pipe"; return 1; }
    lf_warm "$lf_at"
    lf_stack_root "$2" || { rm -f "$lf_pipe"; return 1; }
    rm -f "$lf_pipe"
    lf_check_root "$2" || return 1
    lf_keep_alive
    lf_exit_ramfs
    lf_adopt_network
    lf_soft_reboot_note
    lf_network_note "$2"
    lf_boot_note
    lf_altboot_places "$2"
    lf_info "root mounted from $lf_from"
}

# lf_is_ours COMMAND-LINE: 0 = it names a layerfs root.
lf_is_ours() {
    lf_parse "$1"
    [ "$lf_root" = layerfs ] || [ -n "$lf_url" ]
}
