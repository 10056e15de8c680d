#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| layerfs_fuzz_targets::xfs_image(bytes));
