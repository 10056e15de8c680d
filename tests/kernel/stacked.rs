//! U3: the kernel's overlayfs over a read-only mount, with an upper of layerfs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Fixture, bytes};
use crate::harness::mount::{Mount, Overlay};
use crate::harness::programs::{program, run};

/// Each path below `root` with everything that a program sees of it.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let at = root.join(&path);
        let meta = fs::symlink_metadata(&at).unwrap();
        let content = if meta.is_dir() {
            for entry in fs::read_dir(&at).unwrap() {
                waiting.push(path.join(entry.unwrap().file_name()));
            }
            String::new()
        } else if meta.is_symlink() {
            format!("-> {}", fs::read_link(&at).unwrap().display())
        } else {
            let content = fs::read(&at).unwrap();
            format!("{} {:?}", content.len(), content.get(..20))
        };
        let owner = (meta.uid(), meta.gid());
        let times = (!meta.is_dir()).then(|| (meta.mtime(), meta.mtime_nsec()));
        let line = format!("{:o} {owner:?} {times:?} {content}", meta.mode());
        found.insert(path, line);
    }
    found
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// One change of each kind that an upper records, below `round`'s names.
fn change(root: &Path, round: &str) {
    let at = |name: &str| root.join(format!("{round}/{name}"));
    mode(&at("only-mode"), 0o600);
    fs::write(at("written"), "new").unwrap();
    fs::remove_file(at("removed")).unwrap();
    fs::rename(at("file"), at("file-renamed")).unwrap();
    fs::rename(at("directory"), at("directory-renamed")).unwrap();
    fs::write(at("directory-renamed/in-it"), "changed in it").unwrap();
    fs::rename(at("file-of-mode"), at("away")).unwrap();
    mode(&at("away"), 0o640);
    fs::remove_dir_all(at("made-again")).unwrap();
    fs::create_dir(at("made-again")).unwrap();
    fs::write(at("made-again/other"), "other").unwrap();
    fs::hard_link(at("linked"), at("linked-too")).unwrap();
    symlink("away", at("link")).unwrap();
    std::os::unix::fs::chown(at("owned"), Some(7), Some(8)).unwrap();
}

fn lower(lower: &Path) {
    for round in ["one", "two"] {
        for directory in ["directory/deep", "made-again"] {
            fs::create_dir_all(lower.join(round).join(directory)).unwrap();
        }
        for name in [
            "only-mode",
            "written",
            "removed",
            "file",
            "file-of-mode",
            "linked",
            "owned",
            "untouched",
            "directory/in-it",
            "directory/deep/er",
            "made-again/old",
        ] {
            let content = [name.as_bytes(), &bytes(300_000)].concat();
            fs::write(lower.join(round).join(name), content).unwrap();
        }
    }
}

#[test]
fn u3_layerfs_and_overlayfs_read_the_same_upper() {
    let f = Fixture::new(lower);
    change(&f.mount.at, "one");
    let by_layerfs = seen(&f.mount.at);
    f.mount.detach();

    let below = f.bench.dir("below");
    let stacked = f.bench.dir("stacked");
    let read_only = Mount::layerfs(&below, &[&f.layer], None);
    let overlay = Overlay::new(&stacked, &below, &f.upper, &f.work);
    assert_eq!(seen(&stacked), by_layerfs);
    change(&stacked, "two");
    // Objects that layerfs has moved and copied change once more.
    fs::rename(
        stacked.join("one/directory-renamed"),
        stacked.join("two/moved-twice"),
    )
    .unwrap();
    mode(&stacked.join("one/away"), 0o604);
    fs::write(stacked.join("one/only-mode"), "content too").unwrap();
    let by_overlayfs = seen(&stacked);
    overlay.detach();
    drop(overlay);
    read_only.detach();
    drop(read_only);

    let again = Mount::layerfs(&f.mount.at, &[&f.layer], Some((&f.upper, &f.work)));
    assert_eq!(seen(&again.at), by_overlayfs);
    drop(again);
    let baked = f.bench.path("baked.layer");
    run(Command::new(program("bakery"))
        .args(["-q", "bake", "--base"])
        .arg(&f.layer)
        .arg("-o")
        .arg(&baked)
        .arg(&f.upper));
    let both = Mount::layerfs(&f.mount.at, &[&baked, &f.layer], None);
    assert_eq!(seen(&both.at), by_overlayfs);
}
