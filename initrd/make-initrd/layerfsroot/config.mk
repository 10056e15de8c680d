$(call feature-requires,add-modules depmod-image network)

LAYERFSROOT_DATADIR = $(FEATURESDIR)/layerfsroot/data
LAYERFSROOT_PRELOAD = af_packet fs-fuse
LAYERFSROOT_PROGS   = layerfs modprobe findfs mountpoint readlink dmesg find sed grep tr tail chroot busybox

# The shell library and the root of trust of this host.
LAYERFSROOT_LIBRARY ?= /usr/share/layerfs/initrd
LAYERFSROOT_TRUST   ?= /etc/layerfs/trust
