//! The rules of the house that a compiler does not check.

mod circles;
mod names;
mod threats;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The sources of every crate that is shipped.
const CRATES: [&str; 7] = [
    "layerfmt/src",
    "wire/src",
    "source/src",
    "fs/src",
    "fleet/src",
    "bakery/src",
    "console/src",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// All Rust sources below `dir`, with their text.
fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    files(dir, "rs")
}

/// All files below `dir` with this extension, with their text.
fn files(dir: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 3, "no sources in {dir}");
    found
}

fn dependencies(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-p",
            package,
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect()
}

/// layerfmt: no FUSE, no HTTP, no async, no command line.
#[test]
fn the_format_knows_neither_mount_nor_network() {
    let have = dependencies("layerfmt");
    for forbidden in [
        "fuser",
        "hyper",
        "tokio",
        "axum",
        "clap",
        "object_store",
        "serde_json",
        "ssh-key",
        "wire",
        "layerfs",
        "bakery",
    ] {
        assert!(
            !have.iter().any(|d| d == forbidden),
            "layerfmt depends on {forbidden}"
        );
    }
}

/// The mount and the server never import each other.
#[test]
fn mount_and_server_are_strangers() {
    assert!(
        !dependencies("layerfs")
            .iter()
            .any(|d| d == "bakery" || d == "axum")
    );
    assert!(
        !dependencies("bakery")
            .iter()
            .any(|d| d == "layerfs" || d == "fuser")
    );
}

/// The code that client and server share has no I/O of its own and needs no other crate of ours.
#[test]
fn what_both_sides_share_stands_alone() {
    let have = dependencies("wire");
    for forbidden in ["layerfs", "bakery", "tokio", "hyper", "clap", "regex"] {
        assert!(
            !have.iter().any(|d| d == forbidden),
            "wire depends on {forbidden}"
        );
    }
    for (path, text) in sources("wire/src") {
        if path.ends_with("tests.rs") {
            continue;
        }
        for forbidden in ["std::fs", "std::env", "std::net", "SystemTime", "Instant"] {
            assert!(
                !text.contains(forbidden),
                "{} uses {forbidden}",
                path.display()
            );
        }
    }
}

/// The readers of archives and images know no store, no history and no network.
#[test]
fn readers_of_images_stand_alone() {
    let have = dependencies("source");
    for forbidden in ["bakery", "layerfs", "object_store", "tokio", "anyhow"] {
        assert!(
            !have.iter().any(|d| d == forbidden),
            "source depends on {forbidden}"
        );
    }
}

/// The fleet is a part of its own: neither the server's store nor the mount is in it.
#[test]
fn the_fleet_knows_neither_store_nor_mount() {
    for forbidden in ["bakery", "layerfs", "object_store", "fuser"] {
        assert!(
            !dependencies("fleet").iter().any(|d| d == forbidden),
            "fleet depends on {forbidden}"
        );
    }
    assert!(
        !dependencies("layerfs")
            .iter()
            .any(|d| d == "fleet" || d == "rusqlite")
    );
}

/// The server does not know its console: a bakery without the console has nothing of it.
#[test]
fn the_server_does_not_know_its_console() {
    let console = [
        "bakery-console",
        "askama",
        "argon2",
        "plotters",
        "polib",
        "axum-server",
    ];
    for package in ["bakery", "layerfs", "fleet"] {
        let have = dependencies(package);
        for forbidden in console {
            assert!(
                !have.iter().any(|d| d == forbidden),
                "{package} depends on {forbidden}"
            );
        }
    }
    assert!(dependencies("bakery-console").iter().any(|d| d == "bakery"));
}

/// layerfmt reads no clock and no environment: equal input gives equal bytes.
#[test]
fn the_format_is_deterministic() {
    for (path, text) in sources("layerfmt/src") {
        let code = text.split("#[cfg(test)]").next().unwrap();
        for forbidden in ["SystemTime", "Instant::now", "std::env", "TcpStream"] {
            assert!(
                !code.contains(forbidden),
                "{} uses {forbidden}",
                path.display()
            );
        }
    }
}

/// One module speaks bincode.
#[test]
fn bincode_has_one_door() {
    for dir in CRATES {
        for (path, text) in sources(dir) {
            let allowed = path.ends_with("layer/meta.rs");
            assert!(
                allowed || !text.contains("bincode::"),
                "{} uses bincode",
                path.display()
            );
        }
    }
}

/// Domain modules of the server return typed errors and report progress through a function.
#[test]
fn the_command_line_alone_has_anyhow_and_progress_bars() {
    let command_line = [
        "cli.rs",
        "commands.rs",
        "globals.rs",
        "output.rs",
        "progress.rs",
    ];
    let mut found = 0;
    for (path, text) in sources("bakery/src") {
        let inside = path.strip_prefix("bakery/src").unwrap();
        let uses = ["anyhow", "indicatif"]
            .iter()
            .any(|name| text.contains(name));
        if inside.starts_with("commands")
            || command_line.iter().any(|file| inside == Path::new(file))
        {
            found += usize::from(uses);
        } else {
            assert!(!uses, "{} uses anyhow or indicatif", path.display());
        }
    }
    assert!(found > 10, "{found}: the command line has moved");
}

/// Store paths and URLs are built and parsed in `wire::paths`. Tests spell them out, on purpose.
#[test]
fn one_file_spells_a_store_path() {
    let mut found = 0;
    for dir in CRATES {
        for (path, text) in sources(dir) {
            let name = path.to_string_lossy();
            if name.ends_with("tests.rs") {
                continue;
            }
            let code = text.split("#[cfg(test)]").next().unwrap();
            let lines = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            for line in lines.filter(|line| spells_a_store_path(line)) {
                assert!(
                    name.starts_with("wire/src/paths"),
                    "{name} spells a store path: {line}"
                );
                found += 1;
            }
        }
    }
    assert!(found > 10, "{found}: the paths have moved");
}

fn spells_a_store_path(line: &str) -> bool {
    let mut literals = line.split('"').skip(1).step_by(2);
    literals.any(|text| {
        let path = text.strip_prefix('/').unwrap_or(text);
        let directories = [
            "layers",
            "packs",
            "indexes",
            "manifests",
            "keysets",
            "refs",
            "hints",
        ];
        let below = |directory: &&str| {
            path.strip_prefix(*directory)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let bare = ["indexes", "manifests", "keysets", "refs", "hints", "v1"];
        let pages = ["boot/{}", "v1/", "ipxe/", "boot.ipxe", "pxelinux.cfg/"];
        directories.iter().any(below)
            || bare.contains(&path)
            || pages.iter().any(|page| path.starts_with(page))
            || text.contains(":020}")
    })
}

/// Only the adapter uses fuser.
#[test]
fn fuser_has_one_door() {
    for (path, text) in sources("fs/src") {
        let allowed = path.starts_with("fs/src/fuse") || path == Path::new("fs/src/fuse.rs");
        assert!(
            allowed || !text.contains("fuser::"),
            "{} uses fuser",
            path.display()
        );
    }
}

/// Unsafe code lives in `sys`.
#[test]
fn unsafe_has_one_floor() {
    for dir in CRATES {
        for (path, text) in sources(dir) {
            let sys = path.components().any(|c| {
                let name = c.as_os_str().to_string_lossy();
                name == "sys" || name == "sys.rs"
            });
            assert!(
                sys || !text.contains("unsafe {"),
                "{} has unsafe code",
                path.display()
            );
        }
    }
}

/// A file is one noun: at most 500 lines, without its tests.
#[test]
fn files_stay_small() {
    let mut large = Vec::new();
    for dir in CRATES {
        for (path, text) in sources(dir) {
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let lines = code.lines().count();
            if lines > 500 && !path.ends_with("tests.rs") {
                large.push(format!("{} ({lines})", path.display()));
            }
        }
    }
    assert!(large.is_empty(), "over 500 lines: {large:?}");
}

/// Unit tests have one layout: `mod tests` at the end of a file, or `NAME/tests.rs`.
#[test]
fn unit_tests_have_one_layout() {
    for dir in CRATES {
        for (path, text) in sources(dir) {
            let name = path.to_string_lossy();
            assert!(
                !text.contains("#[path"),
                "{name} gives a module another path"
            );
            assert!(!name.ends_with("_tests.rs"), "{name}: use NAME/tests.rs");
        }
    }
}

/// Python silently uses the last definition of a name: a script's own `run` that replaces an
/// imported one is detected only by running it, and the long scripts run rarely.
#[test]
fn scripts_do_not_redefine_what_they_import() {
    let mut imported = 0;
    for (path, text) in files("tests/boot", "py")
        .into_iter()
        .chain(files("benches", "py"))
    {
        let lines = text.lines().filter_map(|line| line.strip_prefix("from "));
        for (_, names) in lines.filter_map(|line| line.split_once(" import ")) {
            for name in names.split(" #").next().unwrap_or_default().split(", ") {
                let definition = format!("def {name}(");
                assert!(
                    !text.lines().any(|line| line.starts_with(&definition)),
                    "{}: {name} is imported and defined",
                    path.display()
                );
                imported += 1;
            }
        }
    }
    assert!(imported > 10, "{imported}");
}

/// `make` starts scripts by their path. A script that is not executable fails only when its target runs.
#[test]
fn make_starts_executable_scripts() {
    use std::os::unix::fs::PermissionsExt;
    let text = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let scripts: std::collections::BTreeSet<&str> = text
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("./"))
        .collect();
    assert!(scripts.len() > 20, "{scripts:?}");
    for script in scripts {
        let mode = std::fs::metadata(root().join(script)).map(|file| file.permissions().mode());
        assert!(
            mode.as_ref().is_ok_and(|mode| mode & 0o111 == 0o111),
            "make starts ./{script}: {mode:?}"
        );
    }
}
