//! The fields of a kernel module: the `.modinfo` section, `key=value` strings ended by NUL.

use super::elf;

/// The values of one key, in the order of the file.
pub(crate) fn values<'a>(module: &'a [u8], key: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    elf::section(module, ".modinfo")
        .unwrap_or(&[])
        .split(|byte| *byte == 0)
        .filter_map(|field| std::str::from_utf8(field).ok())
        .filter_map(move |field| field.strip_prefix(key)?.strip_prefix('='))
}

/// Firmware files the module may ask for.
pub(crate) fn firmware(module: &[u8]) -> impl Iterator<Item = &str> {
    values(module, "firmware")
}

/// Modules (or aliases) that the module needs in addition: the words of `softdep=` without `pre:`
/// and `post:`, and those of `weakdep=`.
pub(crate) fn softdeps(module: &[u8]) -> impl Iterator<Item = &str> {
    values(module, "softdep")
        .chain(values(module, "weakdep"))
        .flat_map(str::split_whitespace)
        .filter(|word| !matches!(*word, "pre:" | "post:"))
}
