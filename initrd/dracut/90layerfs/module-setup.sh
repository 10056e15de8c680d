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

# Is there a module of this name, with this file in it?
has_module() {
    # shellcheck disable=SC2154  # dracutbasedir is set by dracut
    compgen -G "$dracutbasedir/modules.d/[0-9][0-9]$1/${2:-module-setup.sh}" > /dev/null
}

depends() {
    # `network` selects NetworkManager if installed, else systemd-networkd, which in dracut 059 calls no netroot.
    if has_module network-legacy && ! has_module systemd-networkd networkd-run.sh && ! compgen -G "${dracutsysrootdir-}/usr/lib*/*nm-initrd-generator" > /dev/null &&
        ! compgen -G "${dracutsysrootdir-}/usr/lib*/NetworkManager/nm-initrd-generator" > /dev/null; then
        echo base network-legacy network
    else
        echo base network
    fi
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
    inst_multiple busybox ip modprobe mount umount mountpoint ln mkdir mkfifo rm cp cat sed grep tr tail xargs dmesg readlink find sort chroot chmod sleep sync
    inst_multiple -o findfs blkid hostname
    # dracut 112 may put busybox's applets first, and that one's modprobe reads no compressed module.
    path=$(find_binary modprobe)
    # shellcheck disable=SC2154  # initdir is set by dracut
    [[ ! -L $initdir$path || $(readlink "$initdir$path") != *busybox ]] || rm -f "$initdir$path"
    inst "$path"
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
    inst_hook initqueue/settled 98 "$moddir/again.sh"
    inst_script "$moddir/layerfsroot.sh" /sbin/layerfsroot
    if dracut_module_included systemd; then
        # shellcheck disable=SC2154
        inst_script "$moddir/layerfs-generator.sh" "$systemdutildir/system-generators/layerfs-generator"
    fi
    if dracut_module_included systemd-networkd; then
        # Two cards, one without a cable: the first that is up is enough to begin with.
        mkdir -p "$initdir$systemdsystemunitdir/systemd-networkd-wait-online.service.d"
        printf '[Service]\nExecStart=\nExecStart=%s/systemd-networkd-wait-online --any\n' "$systemdutildir" \
            > "$initdir$systemdsystemunitdir/systemd-networkd-wait-online.service.d/layerfs.conf"
    fi
    dracut_need_initqueue
}
