//! The only module with raw system calls: all are relative to a descriptor that was opened when the
//! mount began; none resolves a path made by joining strings.

pub(crate) mod clock;
pub(crate) mod directory;
pub(crate) mod handle;
pub(crate) mod identity;
pub(crate) mod memory;
pub(crate) mod mounts;
pub(crate) mod object;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod tasks;

pub(crate) use rustix::io::Errno;

/// The outcome of a request on the file system: a value, or the number the kernel passes on.
pub(crate) type Result<T> = std::result::Result<T, Errno>;

/// Device number in the form the FUSE protocol carries (`new_encode_dev`).
pub(crate) fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Major and minor of a device number in the FUSE protocol's form.
pub(crate) fn decode_device(device: u32) -> (u32, u32) {
    (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_protocol() {
        for (major, minor) in [(0, 0), (1, 3), (4095, 255), (259, 1_048_575), (8, 256)] {
            assert_eq!(decode_device(encode_device(major, minor)), (major, minor));
        }
    }
}
