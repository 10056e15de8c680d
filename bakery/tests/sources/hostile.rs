//! Malicious archives: one clear error that names the entry, and no leftovers.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::tree::{assert_nothing_left, bake_as, everything, recipe, scratch, shell};
use bakery::assemble::Reading;
use bakery::bake::bake;
use source::Limits;
use source::open::{SourceOptions, open};
use wire::exclude::Excludes;

/// A header block with a right checksum.
pub(super) fn header(name: &[u8], kind: u8, size: u64, link: &[u8]) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    if size <= 0o777_7777_7777 {
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

pub(super) fn entry(name: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
    let mut out = header(name, kind, data.len() as u64, b"");
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

pub(super) fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let len = (rest..)
            .find(|len| len.to_string().len() + rest == *len)
            .unwrap();
        data.extend_from_slice(format!("{len} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    entry(b"pax", b'x', &data)
}

pub(super) fn ended(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = parts.concat();
    archive.extend_from_slice(&[0; 1024]);
    archive
}

/// Bakes bytes that must be refused; gives the message.
pub(super) fn refused(what: &str, archive: &[u8], place: &Path) -> String {
    let (input, out) = (place.join("input"), place.join("out"));
    fs::write(&input, archive).unwrap();
    fs::create_dir_all(&out).unwrap();
    let result = bake_as(Reading::Changes, &input, None, &out.join("x.layer"));
    let error = result
        .err()
        .unwrap_or_else(|| panic!("{what}: it was taken"));
    assert_nothing_left(&out);
    format!("{error:#}")
}

/// A file with four bytes.
pub(super) fn file(name: &[u8]) -> Vec<u8> {
    entry(name, b'0', b"data")
}

/// A sparse file in the PAX form 0.1.
pub(super) fn sparse(map: &str, size: &str) -> [Vec<u8>; 2] {
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.map", map.as_bytes()),
        ("GNU.sparse.size", size.as_bytes()),
    ];
    [pax(&records), file(b"sparse")]
}

#[test]
fn what_hostile_archives_get() {
    let (_guard, place) = scratch();
    let long = [b'n'; 300];
    let table: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("absolute", vec![file(b"/etc/passwd")], "\"/etc/passwd\""),
        (
            "climbing",
            vec![file(b"a/../../etc/passwd")],
            "\"a/../../etc/passwd\"",
        ),
        ("NUL", vec![pax(&[("path", b"a\0b")]), file(b"x")], "NUL"),
        (
            "long component",
            vec![pax(&[("path", &long)]), file(b"x")],
            "255",
        ),
        ("twice", vec![file(b"a"), file(b"a")], "\"a\""),
        ("file as parent", vec![file(b"a"), file(b"a/b")], "\"a/b\""),
        (
            "symlink as parent",
            vec![header(b"a", b'2', 0, b"/etc"), file(b"a/passwd")],
            "\"a/passwd\"",
        ),
        (
            "link to nowhere",
            vec![header(b"l", b'1', 0, b"gone")],
            "gone",
        ),
        ("link to itself", vec![header(b"l", b'1', 0, b"l")], "\"l\""),
        (
            "link outside",
            vec![header(b"l", b'1', 0, b"../../etc/shadow")],
            "\"l\"",
        ),
        (
            "link to directory",
            vec![header(b"d/", b'5', 0, b""), header(b"l", b'1', 0, b"d")],
            "directory d",
        ),
        ("whiteout of nothing", vec![file(b".wh.")], ".wh."),
        ("whiteout of dots", vec![file(b"a/.wh...")], ".wh..."),
        (
            "endless size",
            vec![header(b"big", b'0', 1 << 62, b"")],
            "\"big\"",
        ),
        (
            "unknown type",
            vec![header(b"odd", b'Q', 0, b"")],
            "\"odd\"",
        ),
        (
            "multi-volume",
            vec![header(b"part", b'M', 0, b"")],
            "multi-volume",
        ),
        ("empty symlink", vec![header(b"s", b'2', 0, b"")], "\"s\""),
        (
            "giant pax header",
            vec![header(b"p", b'x', 1 << 40, b"")],
            "extended header",
        ),
        (
            "pax without entry",
            vec![pax(&[("path", b"a")])],
            "without its entry",
        ),
        (
            "pax record length",
            vec![entry(b"p", b'x', b"99 path=a\n"), file(b"a")],
            "record",
        ),
        ("sparse overlap", sparse("0,3,2,1", "9").to_vec(), "overlap"),
        ("sparse beyond end", sparse("0,4", "3").to_vec(), "beyond"),
        (
            "sparse too short",
            sparse("0,2", "9").to_vec(),
            "names 2 bytes",
        ),
        (
            "sparse odd",
            sparse("0,4,5", "9").to_vec(),
            "between an offset",
        ),
        (
            "sparse future",
            vec![
                pax(&[("GNU.sparse.major", b"2"), ("GNU.sparse.size", b"4")]),
                file(b"s"),
            ],
            "2.0",
        ),
        (
            "xattr value",
            vec![pax(&[("SCHILY.xattr.user.a", &[7; 70_000])]), file(b"a")],
            "65536",
        ),
    ];
    for (what, parts, needle) in table {
        let message = refused(what, &ended(&parts), &place);
        assert!(
            message.contains(needle),
            "{what}: \"{message}\" does not say {needle}"
        );
    }
}

#[test]
fn cut_off_anywhere_is_an_error() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    shell(
        "rm -rf usr var; tar --xattrs --format=pax -b1 -cf ../a.tar .; zstd -q ../a.tar",
        &tree,
    );
    let plain = fs::read(place.join("a.tar")).unwrap();
    // Without its end mark it is incomplete, even with half of it complete.
    let end = plain.len() - 1024;
    let mut cuts: Vec<usize> = (0..=end).step_by(512).collect();
    cuts.extend((0..end).step_by(487));
    for cut in cuts {
        refused(&format!("{cut} of {}", plain.len()), &plain[..cut], &place);
    }
    let packed = fs::read(place.join("a.tar.zst")).unwrap();
    for cut in (0..packed.len()).step_by(7) {
        refused(
            &format!("zstd, {cut} of {}", packed.len()),
            &packed[..cut],
            &place,
        );
    }
}

#[test]
fn bombs_are_bounded() {
    let (_guard, place) = scratch();
    let out = place.join("out");
    fs::create_dir(&out).unwrap();
    let excludes = Excludes::default();
    let attempt = |input: &Path, limits: Limits| {
        let options = SourceOptions {
            limits,
            ..SourceOptions::default()
        };
        let mut source = open(input, &options)?;
        let recipe = recipe(&excludes, Reading::Changes);
        anyhow::Ok(bake(&mut *source, None, &recipe, &out.join("x.layer"))?)
    };
    // 256 MiB of zeros in some kilobytes.
    let bomb = place.join("bomb.tar.zst");
    let file = fs::File::create(&bomb).unwrap();
    let mut encoder = zstd::stream::write::Encoder::new(file, 3).unwrap();
    encoder
        .write_all(&header(b"zeros", b'0', 256 << 20, b""))
        .unwrap();
    for _ in 0..256 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    encoder.finish().unwrap();
    let limits = Limits {
        expanded_len_max: 10 << 20,
        ..Limits::default()
    };
    let message = format!("{:#}", attempt(&bomb, limits).unwrap_err());
    assert!(
        message.contains("zeros") && message.contains("expands"),
        "{message}"
    );
    assert_nothing_left(&out);
    // A frame that requests a window of 2 GiB.
    let wide = place.join("wide.tar.zst");
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3];
    frame.extend_from_slice(&[0x01, 0x00, 0x00]);
    fs::write(&wide, frame).unwrap();
    let message = format!("{:#}", attempt(&wide, Limits::default()).unwrap_err());
    assert!(message.contains("wide.tar.zst"), "{message}");
    // More entries than allowed.
    let many = place.join("many.tar");
    let entries: Vec<Vec<u8>> = (0..20)
        .map(|n| entry(format!("f{n}").as_bytes(), b'0', b""))
        .collect();
    fs::write(&many, ended(&entries)).unwrap();
    let limits = Limits {
        entries_max: 10,
        ..Limits::default()
    };
    let message = format!("{:#}", attempt(&many, limits).unwrap_err());
    assert!(message.contains("more than 10 entries"), "{message}");
    assert_nothing_left(&out);
}

#[test]
fn hard_links_may_come_first_and_form_chains() {
    let (_guard, place) = scratch();
    let parts = [
        header(b"c", b'1', 0, b"b"),
        header(b"b", b'1', 0, b"dir/a"),
        entry(b"dir/a", b'0', b"content"),
        header(b"d", b'1', 0, b"c"),
    ];
    let input = place.join("links.tar");
    fs::write(&input, ended(&parts)).unwrap();
    let output = place.join("x.layer");
    let layer = super::tree::baked(&input, None, &output);
    let text = super::tree::dump(&layer);
    for line in ["/c f", "/d f", "/dir/a f"] {
        let found = text
            .lines()
            .find(|candidate| candidate.starts_with(line))
            .unwrap();
        assert!(found.ends_with("=/b"), "{found}");
    }
}

#[test]
fn images_that_lie_fail_in_their_cage() {
    let (_guard, place) = scratch();
    let mut image = vec![0u8; 1 << 20];
    image[..4].copy_from_slice(b"hsqs");
    let message = refused("squashfs", &image, &place);
    assert!(message.contains("sqfs2tar"), "{message}");
    let mut image = vec![0u8; 1 << 20];
    image[32_769..32_774].copy_from_slice(b"CD001");
    refused("iso", &image, &place);
    for (magic, word) in [
        (&b"\x1f\x8b\x08"[..], "zcat"),
        (b"\xfd7zXZ\0", "xzcat"),
        (b"", "empty"),
    ] {
        let message = refused("compressed", magic, &place);
        assert!(message.contains(word), "{message}");
    }
}
