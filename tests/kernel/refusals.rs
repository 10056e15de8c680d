//! S16.12 and S16.13: paths that are not mounts, and addresses without a scheme.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Fixture;
use crate::harness::programs::{program, run};

/// Standard error of `layerfs WORDS`, which must fail.
fn refused(words: &[&str]) -> String {
    let output = Command::new(program("layerfs"))
        .args(words)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn s16_12_a_path_that_is_not_a_mount_is_refused_and_left_alone() {
    let f = Fixture::new(|lower| fs::create_dir(lower.join("d")).unwrap());
    let other = f.bench.dir("other");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "layerfs-test"])
        .arg(&other));
    let mounted = f.mount.at.display().to_string();
    // A foreign mount, a plain directory, and a directory inside a mount.
    for path in [other.clone(), f.bench.dir("plain"), f.at("d")] {
        let path = path.to_str().unwrap();
        for verb in ["umount", "status", "trace", "push-trace", "initramfs warm"] {
            let words: Vec<&str> = verb.split(' ').chain([path]).collect();
            let said = refused(&words);
            assert!(
                said.contains(&format!("{path}: not a layerfs mount"))
                    && said.contains("layerfs is mounted on")
                    && said.contains(&mounted),
                "{verb} {path}: {said}"
            );
        }
    }
    assert_eq!(file_system(&other).as_deref(), Some("tmpfs"));
    run(Command::new("umount").arg(&other));
    assert!(f.at("d").is_dir());
}

#[test]
fn s16_13_an_address_without_a_scheme_names_the_url() {
    let f = Fixture::new(|_| ());
    let at = f.bench.dir("at");
    let at = at.to_str().unwrap();
    for source in [
        "bakery.lan:8080/kiosk/lab@3",
        "bakery/kiosk",
        "10.0.0.1/kiosk",
    ] {
        let said = refused(&["mount", source, at]);
        assert!(said.contains(&format!("write http://{source}")), "{said}");
    }
    let said = refused(&[
        "mount",
        "--mirror",
        "mirror:8080/pub",
        "http://127.0.0.1:9/kiosk",
        at,
    ]);
    assert!(said.contains("write http://mirror:8080/pub"), "{said}");
    let said = refused(&["push", "--to", "http://bakery/kiosk"]);
    assert!(said.contains("write USER@HOST:SYSTEM"), "{said}");
    // A missing layer file is not an address.
    let said = refused(&["mount", "/nowhere/a.layer", at]);
    assert!(!said.contains("http://"), "{said}");
}

/// The type of the file system that is mounted on `at`.
fn file_system(at: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4) == at.to_str())?;
    let (_, after) = line.split_once(" - ")?;
    after.split(' ').next().map(str::to_owned)
}
