//! S7.3: file handles, as NFS, name_to_handle_at and open_by_handle_at use them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::UnmountFlags;

use super::Fixture;
use crate::harness::mount::Mount;
use crate::harness::programs::run;

/// The error of a handle whose object is gone.
const STALE: &str = "errno 116";

fn ask(what: &str, root: &Path, words: &[String]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel/handles.py");
    let mut python = Command::new("python3");
    python.arg(script).arg(what).arg(root).args(words);
    let output = run(&mut python);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The words of handles, two for each path.
fn take(root: &Path, paths: &[&str]) -> Vec<String> {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let lines = ask("take", root, &paths);
    let words = lines.iter().flat_map(|line| line.split(' '));
    words.map(str::to_owned).collect()
}

fn expected(root: &Path, path: &str) -> String {
    let at = root.join(path);
    let seen = at.symlink_metadata().unwrap();
    let what = if seen.is_dir() {
        at.display().to_string().trim_end_matches('/').to_owned()
    } else if seen.is_symlink() {
        fs::read_link(&at).unwrap().display().to_string()
    } else {
        fs::read_to_string(&at).unwrap()
    };
    format!("{} {what}", seen.ino())
}

#[test]
fn s7_3_handles_open_what_they_were_taken_of() {
    let f = Fixture::new(|lower| {
        fs::create_dir_all(lower.join("dir/sub")).unwrap();
        for path in [
            "plain",
            "written",
            "moved",
            "linked",
            "dir/file",
            "dir/sub/file",
        ] {
            fs::write(lower.join(path), path).unwrap();
        }
        fs::hard_link(lower.join("linked"), lower.join("dir/linked")).unwrap();
        symlink("plain", lower.join("link")).unwrap();
    });
    let root = &f.mount.at;
    // Of objects as the lower has them; they are changed later.
    let early = take(
        root,
        &["written", "moved", "linked", "dir", "dir/sub/file", "link"],
    );
    fs::create_dir_all(f.at("new/deep")).unwrap();
    fs::write(f.at("new/deep/file"), "made").unwrap();
    fs::write(f.at("written"), "changed").unwrap();
    fs::rename(f.at("moved"), f.at("new/moved")).unwrap();
    fs::rename(f.at("dir"), f.at("new/dir")).unwrap();
    fs::remove_file(f.at("linked")).unwrap();
    std::os::unix::fs::lchown(f.at("link"), Some(1), None).unwrap();
    fs::rename(f.at("link"), f.at("new/link")).unwrap();
    let paths = [
        "",
        "plain",
        "new",
        "new/deep",
        "new/deep/file",
        "new/dir/file",
        "new/dir/sub",
    ];
    let later = [
        "written",
        "new/moved",
        "new/dir/linked",
        "new/dir",
        "new/dir/sub/file",
        "new/link",
    ];
    let handles = [take(root, &paths), early].concat();
    let right: Vec<String> = paths
        .iter()
        .chain(&later)
        .map(|path| expected(root, path))
        .collect();
    assert_eq!(ask("open", root, &handles), right);
    f.mount.again();
    assert_eq!(ask("open", root, &handles), right, "after a remount");
    // Objects created or moved after the search of the upper are found as well.
    fs::write(f.at("new/newest"), "newest").unwrap();
    let newest = take(root, &["new/newest"]);
    fs::rename(f.at("new/newest"), f.at("new/dir/newest")).unwrap();
    let right = vec![expected(root, "new/dir/newest")];
    assert_eq!(ask("open", root, &newest), right);
}

#[test]
fn s7_3_handles_of_what_is_gone_are_stale() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("f"), "f").unwrap();
        fs::write(lower.join("written"), "w").unwrap();
    });
    let root = &f.mount.at;
    fs::write(f.at("new"), "new").unwrap();
    fs::write(f.at("written"), "w2").unwrap();
    let handles = take(root, &["d", "f", "written", "new"]);
    fs::remove_dir(f.at("d")).unwrap();
    for name in ["f", "written", "new"] {
        fs::remove_file(f.at(name)).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(ask("open", root, &handles), [STALE; 4]);
        for name in ["f", "written", "new"] {
            fs::write(f.at(name), "another").unwrap();
        }
        assert_eq!(ask("open", root, &handles), [STALE; 4]);
        f.mount.again();
    }
}

/// However many search at once, the daemon has one thread for it.
#[test]
fn s7_3_many_handles_at_once_are_found_by_one_thread() {
    const HANDLES: usize = 40;
    let f = Fixture::new(|_| {});
    for dir in 0..400 {
        let deep = f.at(&format!("d{dir}/e/f"));
        fs::create_dir_all(&deep).unwrap();
        for file in 0..5 {
            fs::write(deep.join(file.to_string()), dir.to_string()).unwrap();
        }
    }
    let paths: Vec<String> = (0..HANDLES).map(|dir| format!("d{dir}/e/f/3")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let handles = take(&f.mount.at, &paths);
    let right: Vec<String> = paths
        .iter()
        .map(|path| expected(&f.mount.at, path))
        .collect();
    f.mount.again();
    let tasks = format!("/proc/{}/task", f.mount.pid());
    let over = std::sync::atomic::AtomicBool::new(false);
    let searching = || {
        let names = fs::read_dir(&tasks).unwrap().flatten();
        let names = names.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name == "search\n").count()
    };
    std::thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut most = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                most = most.max(searching());
            }
            most
        });
        let found = ask("crowd", &f.mount.at, &handles);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(found, right);
        assert!(most.join().unwrap() <= 1);
    });
}

/// An upper on a file system that gives the numbers of removed files to new ones, unlike tmpfs.
struct Ext4 {
    at: PathBuf,
}

impl Ext4 {
    fn new(f: &Fixture) -> Ext4 {
        let (image, at) = (f.bench.path("image"), f.bench.dir("ext4"));
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, &at]));
        Ext4 { at }
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.at, UnmountFlags::DETACH);
    }
}

#[test]
fn s7_3_a_number_that_is_used_again_has_another_generation() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), "f").unwrap());
    let ext4 = Ext4::new(&f);
    let (upper, work, at) = (ext4.at.join("u"), ext4.at.join("w"), f.bench.dir("m2"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let mount = Mount::layerfs(&at, &[&f.layer], Some((&upper, &work)));
    let again: usize = ask("reuse", &mount.at, &[])[0].parse().unwrap();
    assert!(again > 10, "ext4 used only {again} numbers again");
}

#[test]
fn s7_3_without_an_upper_and_with_other_layers() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("d/f"), "low").unwrap();
    });
    let (at, other) = (f.bench.dir("m2"), f.bench.dir("m3"));
    let mount = Mount::layerfs(&at, &[&f.layer], None);
    let handles = take(&mount.at, &["d", "d/f"]);
    let right = [expected(&at, "d"), expected(&at, "d/f")];
    assert_eq!(ask("open", &at, &handles), right);
    let (tree, layer) = (f.bench.dir("tree"), f.bench.path("other.layer"));
    fs::create_dir(tree.join("a")).unwrap();
    fs::write(tree.join("a/b"), "another").unwrap();
    crate::harness::programs::bake(&tree, &layer);
    let _second = Mount::layerfs(&other, &[&layer], None);
    assert_eq!(ask("open", &other, &handles), [STALE; 2]);
}
