//! The archive, read back by GNU tar's rules through the tar crate and by hand.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, symlink};

use wire::tar::{ArchiveEntry, ArchiveKind};

use super::*;

fn read_back(bytes: &[u8]) -> Vec<(String, tar::EntryType, u64)> {
    let decoded = zstd::decode_all(bytes).unwrap();
    let mut archive = tar::Archive::new(&decoded[..]);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        found.push((
            String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
            entry.header().entry_type(),
            data.len() as u64,
        ));
    }
    found
}

#[test]
fn an_upper_comes_back_entry_by_entry() {
    let upper = tempfile::tempdir().unwrap();
    let root = upper.path();
    let long = "n".repeat(255);
    std::fs::create_dir_all(root.join("etc/deep")).unwrap();
    std::fs::write(root.join("etc/motd"), "hello").unwrap();
    std::fs::hard_link(root.join("etc/motd"), root.join("etc/motd2")).unwrap();
    symlink("x".repeat(300), root.join("etc/link")).unwrap();
    std::fs::write(root.join("etc/deep").join(&long), "long").unwrap();
    std::fs::create_dir(root.join("cache")).unwrap();
    std::fs::write(root.join("cache/big"), vec![7; 100_000]).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("sock")).unwrap();
    let plan = PushPlan::all_but(Excludes::new([("test", "/cache/*")], true).unwrap());
    let mut seen = Vec::new();
    let (tally, bytes) = write_upper(root, &plan, Vec::new(), &mut |found| {
        seen.push((found.path.to_vec(), found.left_out.map(str::to_owned)));
    })
    .unwrap();
    let names: Vec<String> = read_back(&bytes)
        .into_iter()
        .map(|(name, ..)| name)
        .collect();
    let deep = format!("etc/deep/{long}");
    assert_eq!(
        names,
        [
            "./",
            "cache/",
            "etc/",
            "etc/deep/",
            &deep,
            "etc/link",
            "etc/motd",
            "etc/motd2"
        ]
    );
    assert_eq!((tally.entries, tally.excluded, tally.skipped), (8, 1, 1));
    assert_eq!(tally.data_len, 9);
    assert!(seen.contains(&(b"sock".to_vec(), Some("a socket".to_owned()))));
    let survey = survey_upper(root, &plan, &mut |_| {}).unwrap();
    assert_eq!(survey, tally);
}

/// Selected paths are sent with their parent directories, and nothing else.
#[test]
fn a_selection_sends_its_paths_and_the_way_to_them() {
    let upper = tempfile::tempdir().unwrap();
    let root = upper.path();
    std::fs::create_dir_all(root.join("etc/a/b")).unwrap();
    std::fs::create_dir_all(root.join("home/ann")).unwrap();
    for file in [
        "etc/motd",
        "etc/a/x.conf",
        "etc/a/b/y",
        "home/ann/z",
        "home/ann/z.bak",
    ] {
        std::fs::write(root.join(file), "x").unwrap();
    }
    let names = |selection: Selection, own: &str| {
        let plan = PushPlan {
            excludes: Excludes::new([("defaults", "/home/*"), ("own", own)], true).unwrap(),
            own_excludes: Excludes::new([("own", own)], true).unwrap(),
            selection,
            is_listing: false,
        };
        let (_, bytes) = write_upper(root, &plan, Vec::new(), &mut |_| {}).unwrap();
        let names = read_back(&bytes).into_iter().map(|(name, ..)| name);
        names.collect::<Vec<_>>().join(" ")
    };
    let paths = |paths: &[&str]| paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    assert_eq!(
        names(Selection::Paths(paths(&["etc/a"])), ""),
        "./ etc/ etc/a/ etc/a/b/ etc/a/b/y etc/a/x.conf"
    );
    assert_eq!(
        names(Selection::Paths(paths(&["home/ann"])), "*.bak"),
        "./ home/ home/ann/ home/ann/z",
        "a named path goes whatever the defaults say"
    );
    assert_eq!(
        names(Selection::Exactly(paths(&["etc/a/b/y"])), ""),
        "./ etc/ etc/a/ etc/a/b/ etc/a/b/y"
    );
    let only = Excludes::new([("--only", "*.conf\nmotd")], false).unwrap();
    assert_eq!(
        names(Selection::Fitting(only), ""),
        "./ etc/ etc/a/ etc/a/x.conf etc/motd"
    );
    assert_eq!(names(Selection::Paths(paths(&["srv"])), ""), "");
}

/// Each component of live-config that ran excludes its own files, and no other.
#[test]
fn a_live_system_keeps_what_its_boot_wrote() {
    let upper = tempfile::tempdir().unwrap();
    let root = upper.path();
    std::fs::create_dir_all(root.join("var/lib/live/config")).unwrap();
    std::fs::create_dir_all(root.join("etc/sudoers.d")).unwrap();
    std::fs::write(root.join("var/lib/live/config/user-setup"), "").unwrap();
    for file in [
        "etc/passwd",
        "etc/shadow",
        "etc/timezone",
        "etc/motd",
        "etc/sudoers.d/live",
    ] {
        std::fs::write(root.join(file), "x").unwrap();
    }
    let lists = default_excludes(root, &[]);
    let lists = lists.iter().map(|list| (&*list.place, &*list.text));
    let plan = PushPlan::all_but(Excludes::new(lists, true).unwrap());
    let (_, bytes) = write_upper(root, &plan, Vec::new(), &mut |_| {}).unwrap();
    let names = read_back(&bytes).into_iter().map(|(name, ..)| name);
    let names: Vec<_> = names.filter(|name| !name.ends_with('/')).collect();
    assert_eq!(names, ["etc/motd", "etc/sudoers.d/live", "etc/timezone"]);
}

/// A listing has no contents: a line with length and content digest in place of each.
#[test]
fn a_listing_brings_no_contents() {
    let upper = tempfile::tempdir().unwrap();
    std::fs::write(upper.path().join("secret"), "secret words").unwrap();
    std::fs::write(upper.path().join("empty"), "").unwrap();
    let plan = PushPlan {
        is_listing: true,
        ..PushPlan::all_but(Excludes::default())
    };
    let (_, bytes) = write_upper(upper.path(), &plan, Vec::new(), &mut |_| {}).unwrap();
    let decoded = zstd::decode_all(&bytes[..]).unwrap();
    let mut archive = tar::Archive::new(&decoded[..]);
    let mut bodies = Vec::new();
    for entry in archive.entries().unwrap().skip(1) {
        let mut body = String::new();
        entry.unwrap().read_to_string(&mut body).unwrap();
        bodies.push(body);
    }
    let digest = layerfmt::Digest::of(b"secret words");
    assert_eq!(bodies, [String::new(), format!("12 {digest}\n")]);
}

#[test]
fn secrets_and_kinds_are_told() {
    let upper = tempfile::tempdir().unwrap();
    let root = upper.path();
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/shadow"), "root:$y$x").unwrap();
    std::fs::write(root.join("key"), "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    std::fs::write(root.join("copy"), "x").unwrap();
    let mark = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("copy"), c"user.layerfs.origin", b"x", mark).unwrap();
    let mut listed = Vec::new();
    survey_upper(
        root,
        &PushPlan::all_but(Excludes::default()),
        &mut |found| {
            let path = String::from_utf8_lossy(found.path).into_owned();
            listed.push((path, found.kind, found.suspicion.is_some()));
        },
    )
    .unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|(path, kind, secret)| (path.as_str(), *kind, *secret))
        .collect();
    assert_eq!(
        listed,
        [
            ("", ChangeKind::Added, false),
            ("copy", ChangeKind::Changed, false),
            ("etc", ChangeKind::Added, false),
            ("etc/shadow", ChangeKind::Added, true),
            ("key", ChangeKind::Added, true)
        ]
    );
}

#[test]
fn a_sparse_file_sends_its_data_only() {
    let upper = tempfile::tempdir().unwrap();
    let path = upper.path().join("disk");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], 512 << 20).unwrap();
    let blocks = file.metadata().unwrap().blocks();
    assert!(
        blocks < 1000,
        "this file system keeps no holes: use another for TMPDIR"
    );
    let plan = PushPlan::all_but(Excludes::default());
    let (tally, bytes) = write_upper(upper.path(), &plan, Vec::new(), &mut |_| {}).unwrap();
    assert!(tally.data_len <= 1 << 20, "{tally:?}");
    assert!(bytes.len() < 4096, "{}", bytes.len());
    // As GNU tar's manual describes format 1.0: the map is the first block of the data.
    let decoded = zstd::decode_all(&bytes[..]).unwrap();
    let mut archive = tar::Archive::new(&decoded[..]);
    let mut entry = archive.entries().unwrap().nth(1).unwrap().unwrap();
    let records: Vec<(String, String)> = entry
        .pax_extensions()
        .unwrap()
        .unwrap()
        .map(|record| {
            let record = record.unwrap();
            (
                record.key().unwrap().to_owned(),
                record.value().unwrap().to_owned(),
            )
        })
        .collect();
    assert!(records.contains(&("GNU.sparse.realsize".into(), (1_u64 << 30).to_string())));
    assert!(records.contains(&("GNU.sparse.name".into(), "disk".into())));
    let mut data = Vec::new();
    entry.read_to_end(&mut data).unwrap();
    let map: Vec<u64> = std::str::from_utf8(&data[..512])
        .unwrap()
        .trim_end_matches('\0')
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(map[0] as usize * 2 + 1, map.len());
    let stored: u64 = map[1..].chunks(2).map(|range| range[1]).sum();
    assert_eq!(stored, tally.data_len);
    assert_eq!(data.len() as u64, 512 + stored);
    assert!(map[1] <= 512 << 20 && map[1] + map[2] >= (512 << 20) + 4096);
}

#[test]
fn times_before_1970_and_large_owners_survive() {
    let entry = ArchiveEntry {
        path: b"old",
        kind: ArchiveKind::File(0, None),
        mode: 0o4755,
        uid: u32::MAX - 1,
        gid: 3_000_000,
        mtime: layerfmt::tree::Time {
            sec: -2,
            nsec: 250_000_000,
        },
        xattrs: &[
            (b"user.x".to_vec(), b"a=\0c".to_vec()),
            (b"user.a=b%".to_vec(), b"1".to_vec()),
        ],
    };
    let mut archive = Archive::new(Vec::new());
    archive.append(&entry, &mut io::empty()).unwrap();
    let bytes = archive.finish().unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let records: Vec<(String, Vec<u8>)> = entry
        .pax_extensions()
        .unwrap()
        .unwrap()
        .map(|record| {
            let record = record.unwrap();
            (
                record.key().unwrap().to_owned(),
                record.value_bytes().to_vec(),
            )
        })
        .collect();
    let get = |key: &str| {
        records
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
    };
    assert_eq!(get("uid"), Some((u32::MAX - 1).to_string().into_bytes()));
    assert_eq!(get("gid"), Some(b"3000000".to_vec()));
    assert_eq!(get("SCHILY.xattr.user.x"), Some(b"a=\0c".to_vec()));
    // Like GNU tar and libarchive, escapes characters that would end the key.
    assert_eq!(get("SCHILY.xattr.user.a%3Db%25"), Some(b"1".to_vec()));
    // -1.75 s is 0.25 s after second -2.
    assert_eq!(get("mtime"), Some(b"-1.750000000".to_vec()));
    assert_eq!(entry.header().mode().unwrap(), 0o4755);
}

#[test]
fn the_boot_note_is_read() {
    let note = BootNote::parse("source=http://srv/kiosk@3\nupper=/run/layerfs/upper\ncache=\n");
    assert_eq!(
        note.upper.as_deref(),
        Some(Path::new("/run/layerfs/upper/rw"))
    );
    assert_eq!(note.source.as_deref(), Some("http://srv/kiosk@3"));
    assert_eq!(BootNote::parse("upper=\n"), BootNote::default());
}
