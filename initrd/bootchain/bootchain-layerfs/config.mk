$(call feature-requires,bootchain-waitnet)

BOOTCHAIN_LAYERFS_DATADIR = $(FEATURESDIR)/bootchain-layerfs/data
BOOTCHAIN_LAYERFS_PRELOAD = af_packet fs-fuse
BOOTCHAIN_LAYERFS_PROGS   = layerfs modprobe findfs mountpoint readlink dmesg find sed grep tr tail chroot busybox

# The shell library and the root of trust of this host.
LAYERFSROOT_LIBRARY ?= /usr/share/layerfs/initrd
LAYERFSROOT_TRUST   ?= /etc/layerfs/trust
