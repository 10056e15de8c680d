#!/bin/bash
# dracut module: a layerfs root by root=layerfs:http://SERVER/SYSTEM (docs/BOOT.md).
# Built into an image with `dracut --add layerfs`.

client() {
    local path
    for path in /usr/lib/layerfs/layerfs-static /usr/sbin/layerfs /usr/bin/layerfs; do
        if [[ -x $path ]]; then
            echo "$path"
            return 0
        fi
    done
    return 1
}

check() {
    client > /dev/null || return 1
    require_binaries busybox || return 1
    return 255
}

depends() {
    echo base network
}

installkernel() {
    # shellcheck disable=SC2154  # set by dracut
    hostonly='' instmods fuse af_packet virtio_net virtio_pci virtio_blk ext4
}

install() {
    local path
    inst_simple "$(client)" /usr/bin/layerfs
    for path in mount.layerfs mount.fuse.layerfs; do
        ln_r /usr/bin/layerfs "/usr/sbin/$path"
    done
    inst_multiple busybox ip modprobe mount umount mountpoint ln mkdir cp cat sed grep tr tail dmesg readlink find sort chroot chmod sleep sync
    inst_multiple -o findfs blkid hostname
    for path in /usr/share/layerfs/initrd/*; do
        inst_simple "$path" "/lib/layerfs/${path##*/}"
    done
    if [[ -d /etc/layerfs/trust ]]; then
        for path in /etc/layerfs/trust/*; do
            inst_simple "$path"
        done
    fi
    # shellcheck disable=SC2154  # moddir is set by dracut
    inst_hook cmdline 90 "$moddir/parse-layerfs.sh"
    inst_script "$moddir/layerfsroot.sh" /sbin/layerfsroot
    if dracut_module_included systemd; then
        # shellcheck disable=SC2154
        inst_script "$moddir/layerfs-generator.sh" "$systemdutildir/system-generators/layerfs-generator"
    fi
    dracut_need_initqueue
}
