//! The same signatures and the same key files, in both directions, with the real `ssh-keygen`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use layerfmt::Digest;
use ssh_key::PrivateKey;
use wire::manifest::{Head, ObjectRef, RECORD_FORMAT};
use wire::trust::{self, AllowedSigners, Envelope, HEAD_NAMESPACE, TrustError};

const NOW: u64 = 1_795_414_500;

fn keygen(dir: &Path, name: &str, kind: &str) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", "", "-C", name, "-f"])
        .arg(dir.join(name))
        .status()
        .expect("ssh-keygen must be installed (openssh-client)");
    assert!(status.success());
}

fn public(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(format!("{name}.pub"))).unwrap()
}

fn ssh_sign(dir: &Path, name: &str, namespace: &str, payload: &[u8]) -> String {
    let file = dir.join("payload");
    fs::write(&file, payload).unwrap();
    let signature = dir.join("payload.sig");
    let _ = fs::remove_file(&signature);
    let status = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
        .args([dir.join(name), file])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    fs::read_to_string(signature).unwrap()
}

fn ssh_verify(
    dir: &Path,
    allowed: &str,
    principal: &str,
    namespace: &str,
    envelope: &Envelope,
) -> bool {
    fs::write(dir.join("allowed"), allowed).unwrap();
    fs::write(dir.join("signature"), &envelope.signature).unwrap();
    let mut child = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-I", principal, "-n", namespace])
        .arg("-f")
        .arg(dir.join("allowed"))
        .arg("-s")
        .arg(dir.join("signature"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(envelope.payload.as_bytes())
        .unwrap();
    child.wait().unwrap().success()
}

fn payload() -> Vec<u8> {
    Head {
        expires_at: None,
        format: RECORD_FORMAT,
        issued_at: NOW,
        manifest: ObjectRef {
            digest: Digest([1; 32]),
            len: 10,
        },
        previous: None,
        profile: "main".into(),
        revision: 1,
        system: "alt".into(),
    }
    .render()
    .unwrap()
}

#[test]
fn ssh_keygen_accepts_ours() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    keygen(dir, "bakery", "ed25519");
    keygen(dir, "other", "ed25519");
    let key = PrivateKey::from_openssh(fs::read(dir.join("bakery")).unwrap()).unwrap();
    let envelope = Envelope::sign(&payload(), HEAD_NAMESPACE, &key).unwrap();
    let allowed = format!(
        "alt/* namespaces=\"{HEAD_NAMESPACE}\" {}",
        public(dir, "bakery")
    );
    assert!(ssh_verify(
        dir,
        &allowed,
        "alt/main",
        HEAD_NAMESPACE,
        &envelope
    ));
    assert!(!ssh_verify(
        dir,
        &allowed,
        "other/main",
        HEAD_NAMESPACE,
        &envelope
    ));
    assert!(!ssh_verify(
        dir,
        &allowed,
        "alt/main",
        "layerfs-keyset@v1",
        &envelope
    ));
    let other = format!("alt/* {}", public(dir, "other"));
    assert!(!ssh_verify(
        dir,
        &other,
        "alt/main",
        HEAD_NAMESPACE,
        &envelope
    ));
    let mut changed = envelope;
    changed.payload.push(' ');
    assert!(!ssh_verify(
        dir,
        &allowed,
        "alt/main",
        HEAD_NAMESPACE,
        &changed
    ));
}

#[test]
fn we_accept_what_ssh_keygen_signs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    keygen(dir, "bakery", "ed25519");
    let wanted = "alt".parse().unwrap();
    let verify = |namespace: &str, allowed: &str| {
        let signature = ssh_sign(dir, "bakery", namespace, &payload());
        let envelope = Envelope::seal(&payload(), signature)
            .unwrap()
            .render()
            .unwrap();
        let allowed = AllowedSigners::parse(allowed).unwrap();
        trust::verify_head(&envelope, &allowed, None, &wanted, NOW, 0)
    };
    let allowed = format!("alt/* {}", public(dir, "bakery"));
    let verified = verify(HEAD_NAMESPACE, &allowed).unwrap();
    assert_eq!(
        (verified.head.revision, verified.signer.as_str()),
        (1, "bakery")
    );
    assert!(matches!(
        verify("file", &allowed),
        Err(TrustError::WrongNamespace { .. })
    ));
    let elsewhere = format!("other/* {}", public(dir, "bakery"));
    assert!(matches!(
        verify(HEAD_NAMESPACE, &elsewhere),
        Err(TrustError::UnknownKey { .. })
    ));
}

/// Both readers of one key file must agree, for all options.
#[test]
fn both_read_a_key_file_alike() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    keygen(dir, "bakery", "ed25519");
    let key = PrivateKey::from_openssh(fs::read(dir.join("bakery")).unwrap()).unwrap();
    let envelope = Envelope::sign(&payload(), HEAD_NAMESPACE, &key).unwrap();
    let bytes = envelope.render().unwrap();
    let public = public(dir, "bakery");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut taken = 0;
    for options in [
        "*",
        "alt/main",
        "\"alt/main\"",
        "other/*,alt/*",
        "alt",
        "a?t/m*",
        "alt/* namespaces=\"layerfs-head@v1\"",
        "alt/* namespaces=\"layerfs-*\"",
        "alt/* namespaces=\"git,layerfs-head@v1\"",
        "alt/* namespaces=\"git\"",
        "alt/* valid-after=\"20200101Z\"",
        "alt/* valid-before=\"20200101Z\"",
        "alt/* valid-before=\"209901010000Z\",namespaces=\"layerfs-head@v1\"",
    ] {
        let allowed = format!("# comment\n{options} {public}");
        let theirs = ssh_verify(dir, &allowed, "alt/main", HEAD_NAMESPACE, &envelope);
        let allowed = AllowedSigners::parse(&allowed).unwrap();
        let wanted = "alt".parse().unwrap();
        let ours = trust::verify_head(&bytes, &allowed, None, &wanted, now, 0);
        assert_eq!(ours.is_ok(), theirs, "{options}: {ours:?}");
        taken += usize::from(theirs);
    }
    assert_eq!(taken, 10);
}

#[test]
fn keys_of_other_kinds_are_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for kind in ["rsa", "ecdsa"] {
        keygen(dir, kind, kind);
        let signature = ssh_sign(dir, kind, HEAD_NAMESPACE, &payload());
        let envelope = Envelope::seal(&payload(), signature).unwrap();
        let error = envelope.signed_by(HEAD_NAMESPACE).unwrap_err();
        assert!(
            matches!(error, TrustError::BadSignature(_)),
            "{kind}: {error}"
        );
    }
}
