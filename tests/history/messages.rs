//! Messages about missing things name the thing, the place and the remedy.

use std::process::Command;

use super::verbs::bakery;
use super::world::{World, files, revision, with};
use crate::test_bakery::{program, run, text};

fn message(world: &World, words: &[&str]) -> String {
    let output = bakery(world, words).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
    text(&output.stderr)
}

/// A store that is only named: the program must not touch it.
fn named(store: &str, words: &[&str]) -> String {
    let mut command = Command::new(program("bakery"));
    command.args(["--store", store]).args(words);
    for name in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT",
        "BAKERY_KEYS",
    ] {
        command.env_remove(name);
    }
    let directory = crate::scratch::Scratch::new();
    let output = command.current_dir(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        0,
        "{words:?} made something"
    );
    text(&output.stderr)
}

#[test]
fn a_wrong_system_lists_those_there() {
    let world = World::new();
    let empty = message(&world, &["log", "kiosk"]);
    assert!(
        empty.contains("there is no kiosk; the store")
            && empty.contains("is empty: `bakery import"),
        "{empty}"
    );
    let listed = run(&mut bakery(&world, &["profile", "list"]));
    assert!(
        text(&listed.stderr).contains("is empty: `bakery import SYSTEM SOURCE`"),
        "{listed:?}"
    );
    world.push("kiosk", &files([("a", "a")]));
    world.push("lab", &files([("a", "a")]));
    for words in [
        &["log", "kiosc"][..],
        &["show", "kiosc@1"],
        &["diff", "kiosc"],
        &["rollback", "kiosc@1"],
        &["revert", "kiosc@2"],
        &["rebase", "kiosc/x"],
        &["cat", "kiosc:/a"],
        &["ls", "kiosc"],
        &["dump", "kiosc@1"],
        &["compact", "kiosc"],
        &["cherry-pick", "kiosc@1", "--onto", "lab"],
        &["cherry-pick", "lab@1", "--onto", "kiosc"],
        &["tag", "kiosc@1", "x"],
        &["tag", "kiosc"],
        &["profile", "list", "kiosc"],
        &["ring", "list", "kiosc"],
        &["ring", "log", "kiosc"],
        &["ring", "status", "kiosc"],
        &["initrd", "kiosc"],
        &["purge", "kiosc", "/a"],
    ] {
        let line = message(&world, words);
        assert!(
            line.contains("there is no kiosc") && line.contains("has kiosk, lab"),
            "{words:?}: {line}"
        );
    }
}

/// A tag is a component of a path in the store, also when it is deleted.
#[test]
fn a_tag_is_a_name() {
    let world = World::new();
    world.push("alt", &files([("a", "a")]));
    for name in ["../1", "a/b", "", "A"] {
        for words in [&["tag", "alt", name][..], &["tag", "alt", name, "--delete"]] {
            let line = message(&world, words);
            assert!(line.contains("is not a name: 1 to 64"), "{words:?}: {line}");
        }
    }
    let line = message(&world, &["tag", "alt", "golden", "--delete"]);
    assert!(line.contains("alt has no tag 'golden'"), "{line}");
}

#[test]
fn a_swept_revision_says_so() {
    let world = World::new();
    let one = files([("a", "a")]);
    world.push("alt", &one);
    world.push("alt", &with(&one, [("a", Some("b"))]));
    let layer = world.bake(None, &files([("sbin/init", "i"), ("usr/bin/z", "z")]));
    // Not on top of the others: their layers would then be unreachable.
    let tree = world.dir.path().join("tree");
    run(Command::new(program("bakery"))
        .args(["unpack"])
        .arg(layer)
        .arg(&tree));
    run(&mut bakery(
        &world,
        &[
            "import",
            "alt",
            tree.to_str().unwrap(),
            "--no-default-excludes",
        ],
    ));
    run(&mut bakery(
        &world,
        &["gc", "--keep-last", "1", "--grace", "0"],
    ));
    for words in [
        &["cat", "alt@1:/a"][..],
        &["ls", "alt@1"],
        &["dump", "alt@1"],
        &["unpack", "alt@1", "/nonexistent/x"],
        &["diff", "alt@1"],
        &["rollback", "alt@1"],
        &["rollback", "alt@1", "--dry-run"],
        &["revert", "alt@2"],
    ] {
        let line = message(&world, words);
        assert!(
            line.contains("was swept by `bakery gc`") && line.contains("bakery tag"),
            "{words:?}: {line}"
        );
    }
    let log = run(&mut bakery(&world, &["log", "alt", "--path", "/a"]));
    assert!(
        text(&log.stderr).contains("cannot be compared: `bakery gc` swept them"),
        "{log:?}"
    );
    world
        .publisher()
        .rollback(&revision("alt@3"), "a", "")
        .unwrap_err();
}

#[test]
fn a_misspelled_store_makes_no_directory() {
    for store in ["S3:/x", "s3:bucket", "http://srv/x"] {
        let line = named(store, &["init"]);
        assert!(line.contains("write s3://BUCKET[/PREFIX]"), "{line}");
    }
    let line = named(
        "s3://bucket/x",
        &["--keys", "/nonexistent/keys", "profile", "list"],
    );
    assert!(
        line.contains("needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        "{line}"
    );
    let line = named("/nonexistent/store", &["profile", "list"]);
    assert!(line.contains("is not a store; make one with"), "{line}");
    let line = named("/etc/hostname", &["profile", "list"]);
    assert!(line.contains("/etc/hostname is not a store"), "{line}");
}

#[test]
fn addresses_that_cannot_be_listened_on_say_why() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = message(&world, &["serve", "--listen", &address]);
    assert!(
        line.contains(&address) && line.contains("another program listens there"),
        "{line}"
    );
    let line = message(&world, &["serve", "--listen", "192.0.2.1:80"]);
    assert!(line.contains("no network card of this machine"), "{line}");
    let line = message(&world, &["serve", "--url", "10.0.0.1:8080"]);
    assert!(
        line.contains("has no scheme: write http://10.0.0.1:8080"),
        "{line}"
    );
    let line = message(
        &world,
        &["dnsmasq", "--url", "10.0.0.1:8080", "--network", "10.0.0.0"],
    );
    assert!(
        line.contains("has no scheme: write http://10.0.0.1:8080"),
        "{line}"
    );
}

#[test]
fn a_low_port_without_rights_is_told_from_a_taken_one() {
    let world = World::new();
    world.push("alt", &files([("a", "a")]));
    // A network namespace, in which the kernel's default range of low ports applies; and a
    // timeout, in case listening succeeds.
    let mut command = Command::new("timeout");
    command.args(["20", "unshare", "--net", "setpriv"]);
    command.args(["--bounding-set", "-net_bind_service"]);
    command.args(["--inh-caps", "-net_bind_service"]);
    command.arg("--ambient-caps=-net_bind_service");
    command.arg(program("bakery"));
    command.args(["--store", world.location()]);
    command.args(["serve", "--listen", "0.0.0.0:81"]);
    let output = command.output().unwrap();
    let line = text(&output.stderr);
    assert!(
        line.contains("ports below 1024 need root or CAP_NET_BIND_SERVICE"),
        "{line}"
    );
}

#[test]
fn any_key_may_push_and_only_ed25519_signs() {
    let world = World::new();
    let at = |name: &str| world.dir.path().join(name);
    for kind in ["ecdsa", "rsa", "ed25519"] {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", kind, "-N", "", "-C", "ann@school", "-f"]);
        run(command.arg(at(kind)));
        let public = at(&format!("{kind}.pub")).display().to_string();
        let line = text(
            &run(&mut bakery(
                &world,
                &["authorize", &public, "--systems", "*"],
            ))
            .stdout,
        );
        assert!(
            line.contains("ann@school") && line.starts_with("restrict,command="),
            "{line}"
        );
    }
    let public = at("ecdsa.pub").display().to_string();
    let line = message(&world, &["key", "add", "second", &public]);
    assert!(
        line.contains("ecdsa-sha2-nistp256 cannot sign") && line.contains("`bakery authorize`"),
        "{line}"
    );
    let head = world.keys().directory().join("head");
    std::fs::copy(at("ecdsa"), &head).unwrap();
    let line = message(&world, &["profile", "add", "alt/x"]);
    assert!(line.contains("ed25519"), "{line}");
}

#[test]
fn a_symbolic_link_to_authorized_keys_is_followed() {
    let world = World::new();
    let at = |name: &str| world.dir.path().join(name);
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f"])
        .arg(at("id")));
    std::fs::write(at("real"), "# kept\n").unwrap();
    std::os::unix::fs::symlink("real", at("authorized_keys")).unwrap();
    let (public, file) = (
        at("id.pub").display().to_string(),
        at("authorized_keys").display().to_string(),
    );
    let words = ["authorize", &public, "--systems", "*", "--file", &file];
    run(&mut bakery(&world, &words));
    assert!(at("authorized_keys").is_symlink());
    let kept = std::fs::read_to_string(at("real")).unwrap();
    assert!(
        kept.starts_with("# kept\n") && kept.contains("restrict,command="),
        "{kept}"
    );
    run(&mut bakery(
        &world,
        &["authorize", &public, "--revoke", "--file", &file],
    ));
    assert_eq!(std::fs::read_to_string(at("real")).unwrap(), "# kept\n");
    std::fs::remove_file(at("real")).unwrap();
    let line = message(&world, &words);
    assert!(
        line.contains("symbolic link to a file that is not there"),
        "{line}"
    );
}
