//! Modules and firmware as stored in trees: compressed, with the form in their names.

use std::io::Read as _;

use super::error::{Result, refuse};
use crate::failed::Doing as _;
use crate::limits::SYSTEM_FILE_LEN_MAX;

/// Decompresses `.xz` and `.zst`, by the name; other names are returned unchanged.
///
/// # Errors
/// The data are damaged, too long, or in an unsupported form (`.gz`).
pub(crate) fn decompress(name: &str, stored: Vec<u8>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if name.ends_with(".xz") {
        lzma_rust2::XzReader::new(stored.as_slice(), true)
            .take(SYSTEM_FILE_LEN_MAX + 1)
            .read_to_end(&mut bytes)
            .doing(|| "damaged xz data".into())?;
    } else if name.ends_with(".zst") {
        zstd::stream::read::Decoder::new(stored.as_slice())
            .and_then(|decoder| {
                decoder
                    .take(SYSTEM_FILE_LEN_MAX + 1)
                    .read_to_end(&mut bytes)
            })
            .doing(|| "damaged zstd data".into())?;
    } else if name.ends_with(".gz") {
        refuse!("gzip is not supported; unpack the kernel's modules in the tree and run depmod");
    } else {
        return Ok(stored);
    }
    if bytes.len() as u64 > SYSTEM_FILE_LEN_MAX {
        refuse!("longer than {SYSTEM_FILE_LEN_MAX} bytes when unpacked");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_modules_are_unpacked() {
        let text = b"module".repeat(1000);
        let zst = zstd::bulk::compress(&text, 3).unwrap();
        assert_eq!(decompress("m.ko.zst", zst).unwrap(), text);
        assert_eq!(decompress("m.ko", text.clone()).unwrap(), text);
        assert!(decompress("m.ko.gz", text.clone()).is_err());
        assert!(decompress("m.ko.xz", text).is_err(), "not xz at all");
    }
}
