use super::*;
use crate::store::Store;
use std::process::Command;
use wire::trust::HEAD_NAMESPACE;

fn setup() -> (tempfile::TempDir, Keys) {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::locate(Some(&dir.path().join("keys")), "").unwrap();
    keys.create().unwrap();
    (dir, keys)
}

#[test]
fn keys_of_a_local_store_lie_beside_it() {
    assert_eq!(
        Keys::locate(None, "/srv/a/").unwrap().directory(),
        Path::new("/srv/a.keys")
    );
    let error = Keys::locate(None, "s3://bucket").unwrap_err().to_string();
    assert!(error.contains("--keys"), "{error}");
}

#[test]
fn made_keys_are_private_and_openssh_reads_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, keys) = setup();
    let file = keys.directory().join("head");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let output = Command::new("ssh-keygen")
        .arg("-yf")
        .arg(&file)
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.starts_with(keys.head().unwrap().public_line()),
        "{shown}"
    );
    let before = fs::read(&file).unwrap();
    keys.create().unwrap();
    assert_eq!(
        fs::read(&file).unwrap(),
        before,
        "a second init keeps the keys"
    );
}

#[test]
fn a_key_in_the_agent_signs_as_well() {
    let (dir, keys) = setup();
    let socket = dir.path().join("agent");
    let mut agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..100 {
        if socket.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let head = keys.directory().join("head");
    let added = Command::new("ssh-add")
        .arg("-q")
        .arg(&head)
        .env("SSH_AUTH_SOCK", &socket)
        .status();
    fs::remove_file(&head).unwrap();
    // The signer inherits our environment, so it runs in a separate process.
    let output = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", HEAD_NAMESPACE, "-f"])
        .arg(keys.directory().join("head.pub"))
        .env("SSH_AUTH_SOCK", &socket)
        .stdin(fs::File::open("/dev/null").unwrap())
        .output();
    let without_agent = keys.head().unwrap().sign(HEAD_NAMESPACE, b"");
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(added.unwrap().success());
    let signature = String::from_utf8(output.unwrap().stdout).unwrap();
    let envelope = wire::trust::Envelope::seal(b"", signature).unwrap();
    let key = envelope.signed_by(HEAD_NAMESPACE).unwrap();
    let line = wire::trust::public_key_line(&key).unwrap();
    assert_eq!(line, keys.head().unwrap().public_line());
    if std::env::var_os("SSH_AUTH_SOCK").is_none() {
        assert!(without_agent.unwrap_err().to_string().contains("agent"));
    }
}

#[test]
fn keysets_of_a_store_follow_each_other() {
    let (_dir, keys) = setup();
    let store = Store::memory().unwrap();
    let (root, head, anchors) = (
        keys.root(None).unwrap(),
        keys.head().unwrap(),
        keys.anchors().unwrap(),
    );
    assert_eq!(newest(&store, &anchors).unwrap(), None);
    first(&store, &root, &head).unwrap();
    // Within one second the first call creates the same record again and a later one is refused:
    // there is never a second keyset.
    let _ = first(&store, &root, &head);
    assert_eq!(
        newest(&store, &anchors)
            .unwrap()
            .map(|keyset| keyset.version),
        Some(1)
    );
    let changed = amend(&store, &anchors, &root, |keyset| {
        keyset.keys.iter_mut().for_each(|key| key.revoked = true);
        Ok(())
    })
    .unwrap();
    assert_eq!((changed.version, changed.keys[0].revoked), (2, true));
    let refused = amend(&store, &anchors, &head, |_| Ok(()));
    assert!(refused.is_err(), "the head key is no root key");
}
