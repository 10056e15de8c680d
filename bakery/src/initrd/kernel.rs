//! Release and features of a kernel image, read from the image.

use crate::limits::RELEASE_LEN_MAX;

/// Offset of `HdrS` in an x86 image, and of the word that points to its version.
const MAGIC_AT: usize = 0x202;
const VERSION_AT: usize = 0x20e;
/// The version's place is counted from the end of the boot sector.
const BOOT_SECTOR_LEN: usize = 0x200;

/// The release (`uname -r`) that an x86 kernel image was built as; `None` when it is another
/// kind of image.
#[must_use]
pub(crate) fn release(image: &[u8]) -> Option<String> {
    if image.get(MAGIC_AT..MAGIC_AT + 4)? != b"HdrS" {
        return None;
    }
    let word = image.get(VERSION_AT..VERSION_AT + 2)?;
    let at = usize::from(u16::from_le_bytes(word.try_into().ok()?));
    let text = image.get(BOOT_SECTOR_LEN.checked_add(at).filter(|_| at != 0)?..)?;
    let end = text
        .iter()
        .take(RELEASE_LEN_MAX + 1)
        .position(|byte| matches!(byte, b' ' | 0))?;
    let release = text.get(..end)?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._~".contains(byte);
    (!release.is_empty() && release.iter().all(plain))
        .then(|| String::from_utf8_lossy(release).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of an image whose version is `text`.
    fn image(text: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x1000];
        image[MAGIC_AT..MAGIC_AT + 4].copy_from_slice(b"HdrS");
        image[VERSION_AT..VERSION_AT + 2].copy_from_slice(&0x300_u16.to_le_bytes());
        image[0x500..0x500 + text.len()].copy_from_slice(text);
        image
    }

    #[test]
    fn an_image_says_its_release() {
        let image_of = |text: &str| release(&image(text.as_bytes()));
        assert_eq!(
            image_of("6.12.95+deb12-amd64 (debian-kernel@lists.debian.org) #1 SMP"),
            Some("6.12.95+deb12-amd64".into())
        );
        assert_eq!(
            image_of("6.1.0-std-def-alt1 (builder@x) #1"),
            Some("6.1.0-std-def-alt1".into())
        );
        assert_eq!(image_of(""), None);
        assert_eq!(image_of("../../etc #1"), None);
        assert_eq!(image_of(&"7".repeat(200)), None);
    }

    #[test]
    fn anything_else_says_nothing() {
        assert_eq!(release(b""), None);
        assert_eq!(release(&[0; 0x300]), None);
        let mut cut = image(b"6.1 x");
        cut.truncate(0x502);
        assert_eq!(release(&cut), None);
        let mut outside = image(b"6.1 x");
        outside[VERSION_AT..VERSION_AT + 2].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(release(&outside), None);
    }
}
