//! A live ISO to a signed revision, by the program itself.

use std::fs;
use std::process::Command;

use super::tree::{everything, run, scratch, shell};

#[test]
fn an_iso_becomes_a_revision_with_its_kernel() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    shell(
        "touch -d @7 etc/acl; ln -s tool usr/bin/init; mkdir sbin; ln -s ../usr/bin/tool sbin/init; echo one-machine > etc/machine-id; mkdir var/log; echo x > var/log/syslog",
        &tree,
    );
    shell(
        "mkdir -p content/boot; echo kernel > content/boot/vmlinuz; \
         echo initrd > content/boot/initrd.img; \
         mksquashfs tree content/live -comp xz -noappend -quiet -no-progress; \
         xorriso -as mkisofs -quiet -R -o x.iso content",
        &place,
    );
    let bakery = env!("CARGO_BIN_EXE_bakery");
    let store = place.join("store");
    let store = store.to_str().unwrap();
    run(bakery, &["--store", store, "init"]);
    let iso = place.join("x.iso");
    let import = [
        "--store",
        store,
        "import",
        "alt/main",
        iso.to_str().unwrap(),
        "--json",
    ];
    let output = Command::new(bakery).args(import).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["kernel"], "boot/vmlinuz");
    assert_eq!(answer["initrd"], "boot/initrd.img");
    let excluded = answer["report"]["excluded"].to_string();
    assert!(excluded.contains("etc/machine-id") && excluded.contains("var/log/syslog"));
    let digest = answer["report"]["layer"].as_str().unwrap();
    let layer = format!("{store}/layers/{digest}.layer");
    let dump = Command::new(bakery)
        .args(["dump", &layer])
        .output()
        .unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    assert!(
        dump.contains("/usr/bin/tool f 4755") && !dump.contains("machine-id"),
        "{dump}"
    );
    // The boot files are in the store under their digests.
    let boot: Vec<String> = fs::read_dir(format!("{store}/boot"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(boot.contains(&"kernel\n".to_owned()) && boot.contains(&"initrd\n".to_owned()));
    // A second import is the next revision; a broken source is none.
    run(bakery, &import);
    let bad = ["--store", store, "import", "alt/main", "/dev/null"];
    let output = Command::new(bakery).args(bad).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let refs = fs::read_dir(format!("{store}/refs/alt/main"))
        .unwrap()
        .count();
    assert_eq!(refs, 2);
}

#[test]
fn exit_codes_and_messages_of_the_program() {
    let (_guard, place) = scratch();
    fs::create_dir(place.join("tree")).unwrap();
    fs::write(place.join("tree/file"), "some text").unwrap();
    let bakery = env!("CARGO_BIN_EXE_bakery");
    let code = |arguments: &[&str]| {
        let output = Command::new(bakery)
            .current_dir(&place)
            .args(arguments)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), error)
    };
    assert_eq!(
        code(&["bake", "tree", "-o", "x.layer"]),
        (Some(0), String::new())
    );
    assert_eq!(code(&["verify", "x.layer"]).0, Some(0));
    let mut bytes = fs::read(place.join("x.layer")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(place.join("bad.layer"), &bytes).unwrap();
    assert_eq!(code(&["verify", "bad.layer"]).0, Some(1));
    let (status, error) = code(&["bake", "missing", "-o", "y.layer"]);
    assert!(
        status == Some(2) && error.starts_with("bakery: missing: ") && error.lines().count() == 1
    );
    assert_eq!(code(&["unpack", "x.layer", "-o", "tree"]).0, Some(2));
    assert_eq!(code(&["bake"]).0, Some(2));
    let left: Vec<_> = fs::read_dir(&place)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 3, "{left:?}");
}
