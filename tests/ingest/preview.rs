//! A dry run lists exactly the data that a push sends, and every push is recorded.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::sshd::{Sshd, authorize};
use crate::test_bakery::{TestBakery, program, run, text};

/// The upper of a machine that ran for a while: four intended changes and many unintended ones.
fn upper(bakery: &TestBakery) -> PathBuf {
    let (upper, base) = (bakery.path("upper"), bakery.path("tree"));
    for directory in [
        "etc",
        "usr/share",
        "home/ann",
        "var/log/journal/0123456789abcdef",
        "root/.ssh",
    ] {
        fs::create_dir_all(upper.join(directory)).unwrap();
    }
    fs::write(upper.join("etc/motd"), "changed\n").unwrap();
    fs::write(upper.join("etc/new"), "new\n").unwrap();
    run(Command::new("mknod")
        .arg(upper.join("etc/gone"))
        .args(["c", "0", "0"]));
    let words = upper.join("usr/share/words");
    run(Command::new("cp")
        .arg("-a")
        .arg(base.join("usr/share/words"))
        .arg(&words));
    fs::set_permissions(&words, fs::Permissions::from_mode(0o600)).unwrap();
    // Noise of the machine, and files that the server excludes.
    fs::write(upper.join("etc/hostname"), "desk-3\n").unwrap();
    fs::write(upper.join("etc/unwanted"), "x").unwrap();
    fs::write(upper.join("home/ann/notes"), "private").unwrap();
    fs::write(
        upper.join("var/log/journal/0123456789abcdef/system.journal"),
        "x",
    )
    .unwrap();
    fs::write(upper.join("root/.ssh/known_hosts"), "x").unwrap();
    let excludes = bakery.spool().join("excludes");
    fs::create_dir_all(&excludes).unwrap();
    fs::write(excludes.join("kiosk.conf"), "/etc/unwan[st]ed\n").unwrap();
    upper
}

/// The base has these directories, as every system has.
fn prepare(bakery: &TestBakery, sshd: &Sshd) {
    let upper = bakery.path("first");
    for directory in ["home", "var/log/journal", "root/.ssh"] {
        fs::create_dir_all(upper.join(directory)).unwrap();
    }
    authorize(bakery, sshd, "ann", "kiosk");
    let pushed = sshd.push("ann", "kiosk", &upper, &[]);
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    bakery.drain();
    assert_eq!(bakery.revisions("kiosk").len(), 1);
}

fn changes(list: &serde_json::Value) -> Vec<(String, String)> {
    let list = list.as_array().unwrap().iter();
    let word = |change: &serde_json::Value, key: &str| change[key].as_str().unwrap().to_owned();
    list.map(|change| (word(change, "kind"), word(change, "path")))
        .collect()
}

/// PUSH.md: a dry run shows the changes that the server would accept, by the rules of a bake.
#[test]
fn a_dry_run_shows_what_the_server_takes() {
    let bakery = TestBakery::new();
    let sshd = Sshd::start(&bakery);
    prepare(&bakery, &sshd);
    let upper = upper(&bakery);
    let output = sshd.push("ann", "kiosk", &upper, &["--dry-run", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = [
        ("deleted", "/etc/gone"),
        ("changed", "/etc/motd"),
        ("added", "/etc/new"),
        ("metadata", "/usr/share/words"),
    ]
    .map(|(kind, path)| (kind.to_owned(), path.to_owned()));
    assert_eq!(changes(&output["changes"]), expected, "{output}");
    assert_eq!(output["compared_with"], "kiosk@2");
    let left_out = output["left_out"].to_string();
    for path in [
        "/etc/hostname",
        "/home/ann",
        "/etc/unwanted",
        "/var/log/journal",
    ] {
        assert!(
            left_out.contains(&format!("\"{path}\"")),
            "{path}: {left_out}"
        );
    }
    assert_eq!(bakery.jobs().len(), 1, "nothing was queued");
    // The push sends exactly the shown changes.
    let pushed = sshd.push("ann", "kiosk", &upper, &["-q"]);
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    bakery.drain();
    let job = bakery.jobs().pop().unwrap();
    assert_eq!(
        changes(&job["ending"]["report"]["changes"]),
        expected,
        "{job}"
    );
    let differs = bakery
        .command()
        .args(["diff", "kiosk@2", "kiosk@3"])
        .output()
        .unwrap();
    let differs = text(&differs.stdout);
    assert_eq!(differs.lines().count(), 4, "{differs}");
    // Again: only times of directories would change, and these do not count.
    let again = sshd.push("ann", "kiosk", &upper, &["--dry-run", "--json"]);
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(changes(&again["changes"]), [], "{again}");
    // As text; and without a server, by the marks in the upper.
    let plain = text(
        &sshd
            .push(
                "ann",
                "kiosk",
                &upper,
                &["--dry-run", "--no-default-excludes"],
            )
            .stdout,
    );
    assert!(plain.contains("added     /etc/hostname\n"), "{plain}");
    assert!(
        plain.contains("compared by the server with kiosk@3"),
        "{plain}"
    );
    let alone = run(Command::new(program("layerfs"))
        .args(["push", "--dry-run", "--exclude", "/etc/n*", "--upper"])
        .arg(&upper));
    let alone = text(&alone.stdout);
    assert!(alone.contains("deleted   /etc/gone\n"), "{alone}");
    assert!(alone.contains("excluded  /etc/new (/etc/n*)\n"), "{alone}");
    assert!(alone.contains("no server was asked"), "{alone}");
}

#[test]
fn a_push_sends_what_was_asked_for() {
    let bakery = TestBakery::new();
    let sshd = Sshd::start(&bakery);
    prepare(&bakery, &sshd);
    let upper = upper(&bakery);
    let sent = |output: Output| {
        assert!(output.status.success(), "{}", text(&output.stderr));
        bakery.drain();
        let job = bakery.jobs().pop().unwrap();
        let list = changes(&job["ending"]["report"]["changes"]);
        list.into_iter().map(|(_, path)| path).collect::<Vec<_>>()
    };
    assert_eq!(
        sent(sshd.push("ann", "kiosk", &upper, &["/etc/new"])),
        ["/etc/new"]
    );
    assert_eq!(
        sent(sshd.push("ann", "kiosk", &upper, &["--only", "m*d"])),
        ["/etc/motd"]
    );
    let nothing = sshd.push("ann", "kiosk", &upper, &["/srv/../opt"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(
        text(&nothing.stderr).contains("nothing changed at /opt"),
        "{}",
        text(&nothing.stderr)
    );
    // A named path is sent even if the defaults exclude it.
    let named = sent(sshd.push("ann", "kiosk", &upper, &["/home/ann", "--exclude", "*.bak"]));
    assert_eq!(named, ["/home/ann", "/home/ann/notes"]);
    // Of the two changes left, the second.
    let mut asked = Command::new(program("layerfs"));
    asked
        .args([
            "push",
            "-i",
            "--to",
            "root@127.0.0.1:kiosk",
            "--ssh",
            &sshd.ssh("ann"),
            "--upper",
        ])
        .arg(&upper)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut asked = asked.spawn().unwrap();
    asked.stdin.take().unwrap().write_all(b"n\n?\ny\n").unwrap();
    let asked = asked.wait_with_output().unwrap();
    let questions = text(&asked.stderr);
    assert!(
        questions.contains("deleted   /etc/gone [y,n,a,q,?]"),
        "{questions}"
    );
    assert_eq!(sent(asked), ["/usr/share/words"]);
    assert_eq!(
        bakery.file("kiosk", "etc/gone").unwrap(),
        b"to be deleted\n"
    );
}

/// INGEST.md: push, bake and the watcher read one language.
#[test]
fn push_and_bake_leave_out_the_same() {
    let bakery = TestBakery::new();
    let tree = bakery.path("same");
    for path in [
        "x/y", "z/x/y", "a.tmp", "d.tmp/in", "opt/s/f", "k[1]", "!n", "log/a", "log/d/b",
        "keep.tmp",
    ] {
        let file = tree.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "x").unwrap();
    }
    let patterns = [
        "x/y",
        "*.tmp",
        "!keep.tmp",
        "/opt/s",
        "k\\[*",
        "\\!n",
        "/log/**",
        "!/log/**/",
    ];
    let excludes = patterns.iter().flat_map(|pattern| ["--exclude", pattern]);
    let pushed = run(Command::new(program("layerfs"))
        .args([
            "push",
            "--dry-run",
            "--json",
            "--no-default-excludes",
            "--upper",
        ])
        .arg(&tree)
        .args(excludes.clone()));
    let pushed: serde_json::Value = serde_json::from_slice(&pushed.stdout).unwrap();
    let mut pushed: Vec<_> = changes(&pushed["changes"])
        .into_iter()
        .map(|(_, path)| path)
        .collect();
    pushed.sort();
    let layer = bakery.path("same.layer");
    run(Command::new(program("bakery"))
        .arg("bake")
        .arg(&tree)
        .args(excludes)
        .arg("-o")
        .arg(&layer));
    let opened = layerfmt::Layer::open(&layer).unwrap();
    let mut baked = vec![String::from("/")];
    listing(opened.index(), layerfmt::ROOT, Path::new("/"), &mut baked);
    baked.sort();
    assert_eq!(pushed, baked);
    assert_eq!(
        pushed,
        [
            "/",
            "/keep.tmp",
            "/log",
            "/log/d",
            "/opt",
            "/x",
            "/z",
            "/z/x",
            "/z/x/y"
        ]
    );
}

fn listing(
    index: &layerfmt::Index,
    directory: layerfmt::Ino,
    path: &Path,
    found: &mut Vec<String>,
) {
    for entry in index.entries(directory, 0) {
        let path = path.join(String::from_utf8_lossy(entry.name).into_owned());
        found.push(path.to_str().unwrap().to_owned());
        if let layerfmt::DirentTarget::Inode(ino) = entry.child
            && index.inode(ino).unwrap().is_dir()
        {
            listing(index, ino, &path, found);
        }
    }
}

/// INGEST.md: likely secrets are named before they are sent, and wherever a job is looked at.
#[test]
fn secrets_and_senders_are_named() {
    let bakery = TestBakery::new();
    let sshd = Sshd::start(&bakery);
    prepare(&bakery, &sshd);
    let upper = bakery.path("upper");
    fs::create_dir_all(upper.join("root/.ssh")).unwrap();
    fs::create_dir_all(upper.join("etc")).unwrap();
    fs::copy(
        sshd.directory.join("bob"),
        upper.join("root/.ssh/id_ed25519"),
    )
    .unwrap();
    fs::write(upper.join("etc/shadow"), "root:$y$j9T$x:1::::::\n").unwrap();
    let key = "/root/.ssh/id_ed25519: it begins like a private key";
    let preview = sshd.push("ann", "kiosk", &upper, &["--dry-run"]);
    assert!(
        text(&preview.stderr).contains(key),
        "{}",
        text(&preview.stderr)
    );
    let pushed = sshd.push("ann", "kiosk", &upper, &["-q"]);
    let said = text(&pushed.stderr);
    assert!(pushed.status.success() && said.contains(key), "{said}");
    assert!(
        said.contains("/etc/shadow: it holds password hashes"),
        "{said}"
    );
    let log = bakery.drain_and_listen();
    assert!(
        log.contains("published kiosk/main@3: a change (ann@desk, key ann; job "),
        "{log}"
    );
    assert!(
        log.contains("root/.ssh/id_ed25519: it begins like"),
        "{log}"
    );
    let watch = bakery.watch(&[]);
    fs::write(upper.join("etc/more"), "x").unwrap();
    let waited = sshd.push("ann", "kiosk", &upper, &["-q", "--wait"]);
    let said = text(&waited.stderr);
    assert_eq!(
        said.matches("it holds password hashes").count(),
        2,
        "before and after: {said}"
    );
    assert!(watch.terminate());
    // The signed record names the key that sshd authenticated, regardless of the sender's
    // statement.
    let fingerprint = run(Command::new("ssh-keygen")
        .arg("-lf")
        .arg(sshd.public("ann")));
    let fingerprint = text(&fingerprint.stdout)
        .split(' ')
        .nth(1)
        .unwrap()
        .to_owned();
    let revisions = bakery.revisions("kiosk");
    let pushed_by = revisions[1].manifest.trailer().unwrap().key.unwrap();
    assert_eq!(revisions[1].manifest.author, "ann@desk");
    assert_eq!(pushed_by.fingerprint.as_deref(), Some(&*fingerprint));
    assert_eq!(pushed_by.comment, "ann");
    let shown = text(&run(bakery.command().args(["show", "kiosk@3"])).stdout);
    assert!(
        shown.contains(&format!("key      {fingerprint} ann\n")),
        "{shown}"
    );
    let listed = text(&run(bakery.command().args(["log", "kiosk"])).stdout);
    assert!(listed.contains("ann@desk (key ann)  a change"), "{listed}");
    let jobs = text(&run(bakery.command().arg("jobs")).stdout);
    let line = jobs.lines().nth(1).unwrap();
    assert!(
        line.contains(" UTC  kiosk/main  revision 3  ann@desk  a change  [2 warnings]"),
        "{line}"
    );
}

/// The history stays readable after one rollback on another.
#[test]
fn rollbacks_name_what_they_bring_back() {
    let bakery = TestBakery::new();
    for to in ["kiosk@1", "kiosk@2"] {
        let more = crate::test_bakery::upload(to, b"x");
        bakery.receive("kiosk", super::OPENING, &more).unwrap();
        bakery.drain();
        run(bakery.command().args(["rollback", to]));
    }
    run(bakery.command().args(["rollback", "kiosk@3"]));
    let messages: Vec<_> = bakery
        .revisions("kiosk")
        .into_iter()
        .map(|one| one.manifest.message)
        .collect();
    assert_eq!(messages[1], "roll back to 1: the base");
    assert_eq!(messages[3], "roll back to 2: a change");
    assert_eq!(messages[4], "roll back to 3: the base");
}
