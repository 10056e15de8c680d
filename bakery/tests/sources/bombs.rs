//! Inputs that are small but expand: in memory, on the stack, on disk or in time.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::hostile::{ended, entry, file, header, pax, refused, sparse};
use super::tree::{assert_nothing_left, bake_as, everything, run, scratch, shell};
use bakery::assemble::Reading;

/// Longest that any of these may take; a second is usual.
const SOON: Duration = Duration::from_secs(60);

/// Bakes an input that may be accepted or refused, but soon, and without leftovers if refused.
fn ends_soon(what: &str, input: &Path, place: &Path) -> Result<(), String> {
    let out = place.join("out");
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).unwrap();
    let start = Instant::now();
    let result = bake_as(Reading::Changes, input, None, &out.join("x.layer"));
    assert!(start.elapsed() < SOON, "{what} took {:?}", start.elapsed());
    result.map(drop).map_err(|error| {
        assert_nothing_left(&out);
        format!("{error:#}")
    })
}

fn archive(what: &str, parts: &[Vec<u8>], place: &Path) -> Result<(), String> {
    let input = place.join("input");
    fs::write(&input, ended(parts)).unwrap();
    ends_soon(what, &input, place)
}

#[test]
fn headers_that_promise_too_much_are_refused() {
    let (_guard, place) = scratch();
    let many: Vec<(String, Vec<u8>)> = (0..5000)
        .map(|n| (format!("SCHILY.xattr.user.{n}"), b"v".to_vec()))
        .collect();
    let many: Vec<(&str, &[u8])> = many
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_slice()))
        .collect();
    let mut wrong_sum = file(b"sum");
    wrong_sum[0] ^= 1;
    let deep = "d/".repeat(2000);
    let table: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        (
            "giant GNU long name",
            vec![header(b"././@LongLink", b'L', 1 << 40, b"")],
            "extended header",
        ),
        (
            "giant GNU long link",
            vec![header(b"././@LongLink", b'K', 1 << 40, b"")],
            "extended header",
        ),
        (
            "long name without entry",
            vec![entry(b"././@LongLink", b'L', b"name\0")],
            "without its entry",
        ),
        (
            "climbing long name",
            vec![entry(b"././@LongLink", b'L', b"a/../../b\0"), file(b"x")],
            "a/../../b",
        ),
        (
            "climbing long link",
            vec![
                entry(b"././@LongLink", b'K', b"../../etc/shadow\0"),
                header(b"l", b'1', 0, b""),
            ],
            "\"l\"",
        ),
        (
            "thousands of attributes",
            vec![pax(&many), file(b"a")],
            "4096 attributes",
        ),
        (
            "attribute without a name",
            vec![pax(&[("SCHILY.xattr.", b"v")]), file(b"a")],
            "attribute names",
        ),
        (
            "a name for all",
            vec![entry(b"g", b'g', b"9 path=a\n"), file(b"x"), file(b"y")],
            "twice",
        ),
        (
            "number of 65 bits",
            vec![pax(&[("size", b"99999999999999999999")]), file(b"a")],
            "63 bits",
        ),
        (
            "size of the header's and the record's differ",
            vec![pax(&[("size", b"99999")]), file(b"a")],
            "a",
        ),
        (
            "uid of 33 bits",
            vec![pax(&[("uid", b"4294967296")]), file(b"a")],
            "32 bits",
        ),
        ("wrong checksum", vec![wrong_sum], "checksum"),
        (
            "deeper than any path",
            vec![pax(&[("path", deep.as_bytes())]), file(b"x")],
            "d/d",
        ),
        (
            "longer than any path",
            vec![pax(&[("path", "d/".repeat(40_000).as_bytes())]), file(b"x")],
            "long",
        ),
        (
            "long link target",
            vec![
                pax(&[("linkpath", &[b't'; 9000])]),
                header(b"s", b'2', 0, b""),
            ],
            "\"s\"",
        ),
        (
            "sparse beyond any file system",
            sparse("0,4", "9223372036854775807999").to_vec(),
            "63 bits",
        ),
    ];
    let mut wrong = Vec::new();
    for (what, parts, needle) in table {
        let start = Instant::now();
        let message = refused(what, &ended(&parts), &place);
        if !message.contains(needle) || message.len() > 80_000 {
            let shown: String = message.chars().take(300).collect();
            wrong.push(format!("{what}: \"{shown}\" does not say {needle}"));
        }
        assert!(start.elapsed() < SOON, "{what}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_large_but_true_ends_soon() {
    let (_guard, place) = scratch();
    // Exbibytes that are one hole.
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.map", b"0,4"),
        ("GNU.sparse.size", b"4611686018427387904"),
    ];
    archive("hole", &[pax(&records), file(b"hole")], &place).unwrap();
    // A map of empty pieces only, and four bytes.
    let map = "0,0,".repeat(700_000) + "0,4";
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.map", map.as_bytes()),
        ("GNU.sparse.size", b"9"),
    ];
    archive("map", &[pax(&records), file(b"map")], &place).unwrap();
    // A chain of links, each to the one after it.
    let mut chain: Vec<Vec<u8>> = (0..20_000u32)
        .map(|n| {
            header(
                format!("l{n}").as_bytes(),
                b'1',
                0,
                format!("l{}", n + 1).as_bytes(),
            )
        })
        .collect();
    chain.push(file(b"l20000"));
    archive("chain", &chain, &place).unwrap();
    // The maximum depth of the format, and one more.
    for (depth, fits) in [(1000, true), (1100, false)] {
        let path = "d/".repeat(depth) + "f";
        let output = archive(
            "deep",
            &[pax(&[("path", path.as_bytes())]), file(b"x")],
            &place,
        );
        assert_eq!(output.is_ok(), fits, "{depth}: {output:?}");
    }
    // A whiteout of a whiteout is bookkeeping of AUFS, and hides nothing.
    let parts = [file(b"etc/.wh..wh.passwd"), file(b"etc/.wh..wh..wh.x")];
    archive("whiteouts", &parts, &place).unwrap();
    // Skippable frames and many frames are one stream.
    let plain = ended(&[file(b"a")]);
    let mut frames = vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    for part in plain.chunks(100) {
        frames.extend(zstd::encode_all(part, 1).unwrap());
    }
    let input = place.join("frames.tar.zst");
    fs::write(
        &input,
        [
            &zstd::encode_all(&plain[..100], 1).unwrap()[..],
            &frames[..12],
        ]
        .concat(),
    )
    .unwrap();
    ends_soon("cut frames", &input, &place).unwrap_err();
    let first = zstd::encode_all(&b""[..], 1).unwrap();
    fs::write(&input, [&first[..], &frames].concat()).unwrap();
    ends_soon("many frames", &input, &place).unwrap();
}

/// Images with flipped bits and truncated ends are read or refused, soon, and leave nothing.
#[test]
fn damaged_images_end_soon() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    let (squashfs, iso) = (place.join("good.squashfs"), place.join("good.iso"));
    let paths = [tree.to_str().unwrap(), squashfs.to_str().unwrap()];
    run(
        "mksquashfs",
        &[paths[0], paths[1], "-noappend", "-quiet", "-no-progress"],
    );
    shell(
        "mkdir -p iso/live && cp good.squashfs iso/live/filesystem.squashfs && xorriso -as mkisofs -quiet -R -o good.iso iso",
        &place,
    );
    for (good, name) in [(&squashfs, "bad.squashfs"), (&iso, "bad.iso")] {
        let image = fs::read(good).unwrap();
        ends_soon(name, good, &place).unwrap();
        let mut refusals = 0;
        for turn in 0..24usize {
            let mut bad = image.clone();
            // The tables are at the end of one and at the beginning of the other.
            let at = (turn * 7919 + 40) % bad.len();
            let from_end = bad.len() - 1 - (turn * 37) % 2000.min(bad.len());
            for at in [at, from_end] {
                bad[at] ^= 1 << (turn % 8);
            }
            if turn % 4 == 3 {
                bad.truncate(image.len() * turn / 24);
            }
            let input = place.join(name);
            fs::write(&input, &bad).unwrap();
            if let Err(message) = ends_soon(name, &input, &place) {
                assert!(message.contains(name), "{message}");
                refusals += 1;
            }
        }
        assert!(refusals > 0, "{name}: {refusals} of 24 were refused");
    }
    // The system in it is a link to a file of this machine.
    shell(
        "rm -rf iso; mkdir -p iso/live && ln -s /etc/passwd iso/live/filesystem.squashfs && xorriso -as mkisofs -quiet -R -o link.iso iso",
        &place,
    );
    let message = ends_soon("link", &place.join("link.iso"), &place).unwrap_err();
    assert!(message.contains("link.iso"), "{message}");
}
