//! The archive behind the initramfs: scripts that stay beside the boot, wait for its end and send
//! its trace.

use crate::initrd::archive::{CpioArchive, CpioEntry};

/// Kernel parameters of a rehearsed boot: our script first; no pack, so that the trace has only
/// pages that were read; nothing on a disk; no report about a machine that does not exist; no login
/// on our console.
pub(super) const PARAMETERS: &str = "rdinit=/rehearse/init layerfs.upper=tmpfs layerfs.cache=none \
     layerfs.prefetch=no layerfs.report=no panic=-1 systemd.mask=serial-getty@ttyS0.service \
     systemd.mask=serial-getty@ttyAMA0.service";

/// The archive, uncompressed.
pub(super) fn archive() -> Vec<u8> {
    let mut archive = CpioArchive::new(0);
    archive.file("rehearse/init", 0o755, include_bytes!("scripts/init"));
    archive.file("rehearse/watch", 0o755, include_bytes!("scripts/watch"));
    archive.file("rehearse/end", 0o755, include_bytes!("scripts/end"));
    // Both are needed before /init mounts /dev: the first by the shell, for a program in the
    // background, the second for messages.
    archive.add("dev/null", CpioEntry::Character(1, 3));
    archive.add("dev/kmsg", CpioEntry::Character(1, 11));
    archive.finish()
}
