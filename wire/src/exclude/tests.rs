//! Compares the language with the answers of `git check-ignore` for the same lists.

use super::*;

fn list(text: &str) -> Excludes {
    Excludes::new([("test", text)], false).unwrap()
}

/// A path with a final slash is a directory.
fn left_out(excludes: &Excludes, path: &str) -> bool {
    let is_directory = path.ends_with('/');
    let path = path.trim_end_matches('/');
    excludes
        .pattern_for(path.as_bytes(), is_directory)
        .is_some()
}

const TABLE: [(&str, &str, bool); 62] = [
    ("*.log", "var/log/messages.log", true),
    ("*.log", "x.log", true),
    ("*.log", "x.logs", false),
    ("*.log", "d.log/", true),
    ("*.log", "d.log/x", true),
    ("cache", "var/cache/", true),
    ("cache", "var/cache/x/y", true),
    ("cache", "var/cached", false),
    ("cache", "mycache", false),
    ("cache/", "var/cache/", true),
    ("cache/", "var/cache/x", true),
    ("cache/", "var/cache", false),
    ("/cache", "var/cache", false),
    ("/var/cache", "var/cache", true),
    ("/var/cache", "var/cache/apt", true),
    ("/var/*", "var/cache", true),
    ("/var/*", "var/cache/apt", true),
    ("/var/*", "var/", false),
    ("/var/*.d", "var/cache/apt.d", false),
    ("/var/**", "var/cache/apt", true),
    ("/var/**", "var/", false),
    ("/var/**", "var", false),
    ("/home/*/.cache", "home/ann/.cache", true),
    ("/home/*/.cache", "home/ann/x/.cache", false),
    ("/home/**/.cache", "home/ann/x/.cache", true),
    ("/home/**/.cache", "home/.cache", true),
    ("/home/**/.cache", "home/ann/.cached", false),
    ("apt/archives", "apt/archives", true),
    ("apt/archives", "var/cache/apt/archives", false),
    ("**/apt/archives", "var/cache/apt/archives", true),
    ("**/apt/archives", "xapt/archives", false),
    ("**/a/**/b", "x/a/y/a/z/b", true),
    ("**/a/**/b", "x/a/y/a/z/c", false),
    ("?.c", "src/a.c", true),
    ("?.c", "src/ж.c", true),
    ("?.c", "src/ab.c", false),
    ("a*b*c", "x/axxbxxc", true),
    ("a*b*c", "x/axxb/xxc", false),
    ("a**c", "abc", true),
    ("a**c", "a/c", false),
    ("*", "any/thing", true),
    ("**", "any/thing", true),
    ("/a?b", "a/b", false),
    ("[ab].c", "a.c", true),
    ("[ab].c", "c.c", false),
    ("[!ab].c", "c.c", true),
    ("[^ab].c", "a.c", false),
    ("[a-cx].c", "b.c", true),
    ("[a-cx].c", "d.c", false),
    ("[а-я].c", "ж.c", true),
    ("[]x]", "]", true),
    ("[a-]", "-", true),
    ("[\\]]", "]", true),
    ("\\*", "*", true),
    ("\\*", "a", false),
    ("\\!x", "!x", true),
    ("\\#x", "#x", true),
    ("\\[a]", "[a]", true),
    ("#x", "#x", false),
    ("x\\ ", "x ", true),
    ("x  ", "x", true),
    ("a\\{b,c\\}", "a{b,c}", true),
];

#[test]
fn patterns_mean_what_gitignore_says() {
    for (pattern, path, expected) in TABLE {
        assert_eq!(left_out(&list(pattern), path), expected, "{pattern} {path}");
    }
}

/// Git itself decides, if it is installed.
#[test]
fn git_says_the_same() {
    use std::process::Command;
    let directory = std::env::temp_dir().join(format!("wire-git-{}", std::process::id()));
    let mut compared = 0;
    for (number, (pattern, path, expected)) in TABLE.into_iter().enumerate() {
        // One character is one byte for git.
        if !(pattern.is_ascii() && path.is_ascii()) {
            continue;
        }
        let root = directory.join(number.to_string());
        std::fs::create_dir_all(&root).unwrap();
        let git = |words: &[&str]| Command::new("git").args(words).current_dir(&root).output();
        let Ok(made) = git(&["init", "-q"]) else {
            return;
        };
        assert!(made.status.success());
        std::fs::write(root.join(".git/info/exclude"), format!("{pattern}\n")).unwrap();
        let file = root.join(path);
        if path.ends_with('/') {
            std::fs::create_dir_all(&file).unwrap();
        } else {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
        }
        let path = path.trim_end_matches('/');
        let asked = git(&["check-ignore", "-q", "--no-index", "--", path]).unwrap();
        assert_eq!(
            asked.status.code(),
            Some(i32::from(!expected)),
            "{pattern} {path}"
        );
        compared += 1;
    }
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(compared + 2, TABLE.len());
}

#[test]
fn the_last_pattern_that_fits_decides() {
    let excludes =
        list("/var/log/**\n!/var/log/**/\n!/var/log/keep.me\n/opt/s/\n!/opt/s/x\n*.o\n!a.o");
    for path in [
        "var/log/a",
        "var/log/a/b",
        "opt/s/",
        "opt/s/x",
        "b.o",
        "d/b.o",
    ] {
        assert!(left_out(&excludes, path), "{path} should be left out");
    }
    for path in [
        "var/log/",
        "var/log/nginx/",
        "var/log/keep.me",
        "opt/s",
        "a.o",
        "d/a.o",
    ] {
        assert!(!left_out(&excludes, path), "{path} should stay");
    }
    assert_eq!(excludes.pattern_for(b"opt/s/x", false), Some("/opt/s/"));
}

#[test]
fn defaults_keep_what_systems_need() {
    let excludes = Excludes::with_defaults([("profile", "!/etc/machine-id")]).unwrap();
    for path in [
        "var/cache/debconf/config.dat",
        "var/log/journal/",
        "var/log/nginx/",
        "var/cache/apt/archives/partial/",
        "var/lib/apt/lists/partial/",
        "tmp/",
        "run/lock/",
        "dev/pts/",
        "etc/machine-id",
    ] {
        assert!(!left_out(&excludes, path), "{path} should stay");
    }
    for path in [
        "var/log/syslog",
        "var/log/nginx/access.log",
        "var/log/journal/0123456789abcdef0123456789abcdef/",
        "var/log/journal/0123456789abcdef0123456789abcdef/system.journal",
        "var/tmp/systemd-private-5f-systemd-logind.service-x/",
        "var/tmp/systemd-private-5f-systemd-logind.service-x/tmp/",
        "var/cache/apt/archives/x.deb",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh/ssh_host_rsa_key.pub",
        "var/lib/dhcp/dhclient.leases",
        "home/u/.cache/a/b",
    ] {
        assert!(left_out(&excludes, path), "{path} should be left out");
    }
}

#[test]
fn a_push_leaves_out_its_machine() {
    let push = Excludes::with_defaults([("push", PUSH_DEFAULTS)]).unwrap();
    for path in [
        "etc/hostname",
        "etc/hosts",
        "home/user/",
        "home/user/notes.txt",
        "var/lib/live/config/user-setup",
        "var/lib/systemd/timers/",
        "var/lib/systemd/timers/stamp-apt-daily.timer",
        "var/log/journal/",
        "var/log/live/",
    ] {
        assert!(left_out(&push, path), "{path} should be left out");
    }
    for path in [
        "etc/hosts.allow",
        "home/",
        "etc/systemd/system/cups.service",
        "etc/systemd/system/multi-user.target.wants/cups.path",
        "var/lib/dpkg/status",
        "root/.ssh/authorized_keys",
        "etc/shadow",
        "var/log/apache2/",
        "var/cache/debconf/config.dat",
    ] {
        assert!(!left_out(&push, path), "{path} should stay");
    }
    let live = Excludes::new(LIVE_CONFIG, false).unwrap();
    assert!(left_out(&live, "etc/shadow") && left_out(&live, "etc/sudoers.d/live"));
    // The files that a live system wrote at its boot in `tests/boot/book.py`, in addition to its
    // user's files.
    for (component, path) in [
        ("user-setup", "var/cache/debconf/config.dat-old"),
        ("user-setup", "var/cache/debconf/templates.dat"),
        ("util-linux", "etc/rc0.d/K01hwclock.sh"),
        ("util-linux", "etc/rcS.d/S01hwclock.sh"),
        ("tzdata", "etc/localtime"),
    ] {
        let list = LIVE_CONFIG.iter().filter(|(name, _)| *name == component);
        let excludes = Excludes::new(list.copied(), false).unwrap();
        assert!(left_out(&excludes, path), "{component}: {path}");
    }
}

#[test]
fn wrong_patterns_are_named() {
    let error = |text: &str| {
        let error = Excludes::new([("list.txt", text)], false).unwrap_err();
        error.to_string()
    };
    let message = error("good\n[a\n");
    assert!(
        message.contains("list.txt: line 2") && message.contains("[a"),
        "{message}"
    );
    for text in [
        "/", "!", "!/", "//", "a//b", "../x", "a/./b", "[z-a]", "x\\", "[", "[]", "[a\\",
    ] {
        assert!(error(text).contains("is not a pattern"), "{text}");
    }
    assert!(error("{a,b}").contains("one pattern for each name"));
    assert!(error(&"x".repeat(5000)).contains("longer"));
}

#[test]
fn a_hostile_pattern_is_no_hang() {
    let name = format!("{}b", "a".repeat(4000));
    assert!(!left_out(&list(&"*a".repeat(200)), &name));
    let deep = format!("{}b", "a/".repeat(2000));
    assert!(!left_out(
        &list(&format!("{}x", "**/a/".repeat(200))),
        &deep
    ));
}
