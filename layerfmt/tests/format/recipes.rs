//! Recipes against frozen results (`docs/FORMAT.md` §18).

use layerfmt::Digest;
use layerfmt::update::PackRecipe;

use crate::golden::testdata;

/// Text like that of a log, always the same.
fn lines(count: u64) -> Vec<u8> {
    let line = |at: u64| format!("line {} of {at}\n", at * at % 9973).into_bytes();
    (0..count).flat_map(line).collect()
}

const LZMA2: PackRecipe = PackRecipe::Lzma2 {
    preset: 6,
    is_extreme: false,
    dict_log: 20,
};
const DEFLATE: PackRecipe = PackRecipe::Deflate {
    level: 9,
    mem_level: 8,
};

fn zstd(level: u8, is_job: bool) -> PackRecipe {
    PackRecipe::Zstd { level, is_job }
}

/// `lines.zst` was made by `zstd -19` 1.5.7 of Debian 13 from 3,000 lines.
#[test]
fn a_recipe_makes_the_file_of_the_zstd_program() {
    let file = std::fs::read(testdata("lines.zst")).unwrap();
    let raw = lines(3000);
    assert!(zstd(19, false).makes(&raw, &file));
    assert_eq!(zstd(19, false).unpack(&file, raw.len()).unwrap(), raw);
    assert!(!zstd(18, false).makes(&raw, &file));
}

/// "A recipe gives the same bytes only with a library that compresses in the same way." A library
/// that compresses in another way changes these digests: machines with the older client then fetch
/// the chunks of such units whole, so the format's table of recipes must name another version.
#[test]
fn recipes_make_the_bytes_of_earlier_builds() {
    // Longer than a piece of a worker thread of zstd.
    let raw = lines(90_000);
    let digests = [
        LZMA2,
        DEFLATE,
        zstd(19, false),
        zstd(3, false),
        zstd(3, true),
    ]
    .map(|recipe| Digest::of(&recipe.pack(&raw, raw.len()).unwrap()).to_string());
    assert_eq!(
        digests,
        [
            "5dec4f2f0c1eb672199dd24c4fb69426f2934626be6873322f87e28a4dec1cee",
            "63e06f438056310ad68c6de8eb0489d788994cfe2a692a6dcd35502c5105dbdd",
            "459d8f7613f1f63fdd4908059607023e13ca36c4bba5bf14bd4403fa05625d01",
            "22ae57b82ed361f46e91c1345e43e0c1b64b3e79307fedc808523d1cf0a9436d",
            "22ae57b82ed361f46e91c1345e43e0c1b64b3e79307fedc808523d1cf0a9436d",
        ]
    );
}
