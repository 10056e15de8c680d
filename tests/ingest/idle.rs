//! Tasks of `bakery watch` when there is nothing to bake.

use std::time::Duration;

use wire::manifest::Action;
use wire::trace::{BootTrace, Touch};

use crate::test_bakery::{TestBakery, run, text, upload, wait_until};

/// A new setting applies to existing heads; each is renewed once, and its contents stay the same.
#[test]
fn heads_that_end_are_renewed() {
    let bakery = TestBakery::new();
    let output = run(bakery.command().args(["key", "lifetime"]));
    assert!(
        text(&output.stdout).contains("do not expire"),
        "{}",
        text(&output.stdout)
    );
    let refused = bakery
        .command()
        .args(["key", "lifetime", "5s"])
        .output()
        .unwrap();
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("30d"),
        "{}",
        text(&refused.stderr)
    );
    run(bakery.command().args(["key", "lifetime", "30d"]));
    let before = bakery
        .history()
        .head(&"kiosk".parse().unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(before.head.expires_at, None);
    bakery.drain();
    bakery.drain();
    for name in ["kiosk", "lab"] {
        let head = bakery
            .history()
            .head(&name.parse().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(head.number(), 2, "{name}");
        assert_eq!(
            head.head.expires_at,
            Some(head.head.issued_at + 30 * 86_400)
        );
        assert_eq!(head.manifest.action, Action::Resign);
        assert_eq!(head.manifest.tree_digest, before.manifest.tree_digest);
    }
    // Every publisher uses the setting.
    run(bakery.command().args(["rollback", "kiosk@1", "-m", "back"]));
    let head = bakery
        .history()
        .head(&"kiosk".parse().unwrap())
        .unwrap()
        .unwrap();
    assert!(head.head.expires_at.is_some());
    // A renewal does not count among the retained revisions.
    run(bakery.command().args(["key", "renew"]));
    let swept = run(bakery
        .command()
        .args(["gc", "--keep-last", "1", "--grace", "0", "--json"]));
    let swept: serde_json::Value = serde_json::from_slice(&swept.stdout).unwrap();
    assert_eq!(swept["revisions_kept"], 5, "{swept}");
    run(bakery.command().args(["key", "lifetime", "never"]));
    bakery.assert_sound();
}

#[test]
fn an_idle_watcher_makes_boot_packs() {
    let bakery = TestBakery::new();
    let head = bakery
        .history()
        .head(&"kiosk".parse().unwrap())
        .unwrap()
        .unwrap();
    let merged = bakery.history().merged(&head.manifest).unwrap();
    let file = (0..merged.index.inode_count())
        .find(|ino| merged.index.inode(*ino).unwrap().size > 100_000)
        .unwrap();
    let trace = BootTrace {
        tree: head.manifest.tree_digest,
        touches: vec![Touch {
            ino: file,
            page: 0,
            count: 20,
        }],
    };
    let place = bakery.spool().join("traces/kiosk/main/1");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("01ARZ3NDEKTSV4RRFFQ69G5FAV"), trace.encode()).unwrap();
    let watch = bakery.watch(&["--pack-after", "1"]);
    let number = || {
        bakery
            .history()
            .newest(&"kiosk".parse().unwrap())
            .unwrap()
            .unwrap()
    };
    wait_until(Duration::from_secs(90), || number() == 2);
    let head = bakery
        .history()
        .head(&"kiosk".parse().unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(head.manifest.action, Action::Pack);
    assert!(head.manifest.pack.is_some());
    // And leaves it at that.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(number(), 2);
    assert!(watch.terminate());
}

/// A watcher makes the update packs of the last revisions after it has published. One that is
/// killed meanwhile leaves a sound store, and the next one makes them.
#[test]
fn an_idle_watcher_makes_update_packs() {
    let bakery = TestBakery::new();
    let inbox = bakery.spool().join("incoming/kiosk");
    std::fs::create_dir_all(&inbox).unwrap();
    for (name, body) in [("one", b"1".repeat(3_000)), ("two", b"2".repeat(5_000))] {
        let file = inbox.join(format!("{name}.tar.zst"));
        std::fs::write(file, upload(name, &body)).unwrap();
        let mut watch = bakery.command();
        watch.args(["watch", "--settle", "50", "--once", "--updates", "0"]);
        run(&mut watch);
    }
    let packs = || {
        let place = bakery
            .store()
            .join("updates/kiosk/main")
            .join(format!("{:020}", 3));
        std::fs::read_dir(place).map_or(0, Iterator::count)
    };
    assert_eq!(packs(), 0);
    for pause in [150, 400, 700] {
        let watch = bakery.watch(&[]);
        std::thread::sleep(Duration::from_millis(pause));
        watch.kill();
        bakery.assert_sound();
    }
    let watch = bakery.watch(&[]);
    wait_until(Duration::from_secs(90), || packs() == 2);
    watch.kill();
    bakery.assert_sound();
}

/// A watcher predicts the pack of a revision that has none, also after a rehearsal that fails.
#[test]
fn an_idle_watcher_predicts_a_pack_and_survives_a_failed_rehearsal() {
    let bakery = TestBakery::new();
    let place = crate::scratch::Scratch::new();
    let root = place.path().join("tree");
    crate::remote::predicted::system(&root);
    let (kernel, initrd) = (place.path().join("kernel"), place.path().join("initrd"));
    std::fs::write(&kernel, "kernel").unwrap();
    // Its rehearsal is refused: the initramfs has no client.
    let archive = crate::remote::rehearse::initramfs("bin/other");
    std::fs::write(&initrd, archive).unwrap();
    let mut import = bakery.command();
    import.args(["import", "office", "--level", "3", "--no-pack"]);
    import.arg("--kernel").arg(&kernel);
    run(import.arg("--initrd").arg(&initrd).arg(&root));
    let watch = bakery.watch(&["--pack-after", "1", "--rehearse"]);
    let head = || {
        let head = bakery.history().head(&"office".parse().unwrap());
        head.unwrap().unwrap()
    };
    wait_until(Duration::from_secs(180), || head().number() == 2);
    let manifest = head().manifest;
    assert_eq!(manifest.action, Action::Pack);
    assert!(manifest.pack.is_some());
    assert!(
        manifest.message.contains("predicted"),
        "{}",
        manifest.message
    );
    assert!(watch.terminate());
    bakery.assert_sound();
}
