MODULES_PRELOAD   += $(BOOTCHAIN_LAYERFS_PRELOAD)
MODULES_TRY_ADD   += fs-ext4 virtio_blk

PUT_FEATURE_DIRS  += $(BOOTCHAIN_LAYERFS_DATADIR)
PUT_FEATURE_PROGS += $(BOOTCHAIN_LAYERFS_PROGS)

.PHONY: bootchain-layerfs
bootchain-layerfs: create
	@$(MSG) "Adding layerfs ..."
	@mkdir -p -- "$(ROOTDIR)/lib/layerfs" "$(ROOTDIR)/etc/layerfs/trust"
	@cp -- $(LAYERFSROOT_LIBRARY)/* "$(ROOTDIR)/lib/layerfs/"
	@if [ -d "$(LAYERFSROOT_TRUST)" ]; then cp -- $(LAYERFSROOT_TRUST)/* "$(ROOTDIR)/etc/layerfs/trust/"; fi

pack: bootchain-layerfs
