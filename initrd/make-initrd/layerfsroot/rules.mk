MODULES_PRELOAD   += $(LAYERFSROOT_PRELOAD)
MODULES_TRY_ADD   += fs-ext4 virtio_blk

PUT_FEATURE_DIRS  += $(LAYERFSROOT_DATADIR)
PUT_FEATURE_PROGS += $(LAYERFSROOT_PROGS)

.PHONY: layerfsroot
layerfsroot: create
	@$(MSG) "Adding layerfs ..."
	@mkdir -p -- "$(ROOTDIR)/lib/layerfs" "$(ROOTDIR)/etc/layerfs/trust"
	@cp -- $(LAYERFSROOT_LIBRARY)/* "$(ROOTDIR)/lib/layerfs/"
	@if [ -d "$(LAYERFSROOT_TRUST)" ]; then cp -- $(LAYERFSROOT_TRUST)/* "$(ROOTDIR)/etc/layerfs/trust/"; fi

pack: layerfsroot
