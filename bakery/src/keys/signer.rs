//! Signs with one private key.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ssh_key::{Algorithm, PrivateKey, PublicKey};
use wire::trust::{Envelope, public_key_line};

use super::{KeyError, file_error, public_of, unusable};

/// Signs records with one key.
#[derive(Debug)]
pub struct RecordSigner {
    public_line: String,
    hand: SignerBackend,
}

#[derive(Debug)]
enum SignerBackend {
    /// The key is not protected.
    Own(Box<PrivateKey>),
    /// `ssh-keygen -Y sign` signs: through the agent, or by asking for the passphrase.
    SshKeygen(PathBuf),
}

impl RecordSigner {
    /// True if nobody is asked for a signature: no passphrase, and no agent.
    pub(crate) fn asks_nobody(&self) -> bool {
        matches!(self.hand, SignerBackend::Own(_))
    }

    /// Opens the key in `file`; if only `file.pub` exists, the agent's key.
    ///
    /// # Errors
    /// When there is none, or it is not of ed25519.
    pub fn open(file: &Path) -> Result<RecordSigner, KeyError> {
        let public_file = public_of(file);
        if !file.exists() && public_file.exists() {
            let text = fs::read_to_string(&public_file)
                .map_err(|source| file_error("cannot read the key", &public_file, source))?;
            let public = PublicKey::from_openssh(text.trim())
                .map_err(|e| unusable(&public_file, &e.to_string()))?;
            let public_line = signing_line(&public_file, &public)?;
            return Ok(RecordSigner {
                public_line,
                hand: SignerBackend::SshKeygen(public_file),
            });
        }
        let text =
            fs::read(file).map_err(|source| file_error("cannot read the key", file, source))?;
        let key = PrivateKey::from_openssh(&text).map_err(|e| {
            let what = format!(
                "{e}: signing needs an ed25519 key in OpenSSH's format (`ssh-keygen -t ed25519`)"
            );
            unusable(file, &what)
        })?;
        let public_line = signing_line(file, key.public_key())?;
        let hand = if key.is_encrypted() {
            SignerBackend::SshKeygen(file.into())
        } else {
            SignerBackend::Own(Box::new(key))
        };
        Ok(RecordSigner { public_line, hand })
    }

    /// The public key as `ssh-ed25519 BASE64`.
    pub fn public_line(&self) -> &str {
        &self.public_line
    }

    /// Sign a payload.
    ///
    /// # Errors
    /// When the key or `ssh-keygen` refuses.
    pub fn sign(&self, namespace: &str, payload: &[u8]) -> Result<Envelope, KeyError> {
        match &self.hand {
            SignerBackend::Own(key) => Ok(Envelope::sign(payload, namespace, key)?),
            SignerBackend::SshKeygen(file) => {
                let signature = run_ssh_keygen(file, namespace, payload)?;
                Ok(Envelope::seal(payload, signature)?)
            }
        }
    }
}

/// The form of a signing key in a keyset.
///
/// # Errors
/// The key is not ed25519; the message names the uses of such a key.
pub(crate) fn signing_line(file: &Path, key: &PublicKey) -> Result<String, KeyError> {
    if !matches!(key.algorithm(), Algorithm::Ed25519) {
        let what = format!(
            "a key of type {} cannot sign: keysets and revisions need ed25519 keys (`ssh-keygen -t \
             ed25519`). It may push: `bakery authorize`",
            key.algorithm()
        );
        return Err(unusable(file, &what));
    }
    Ok(public_key_line(key)?)
}

/// The payload is passed on standard input and the signature returned on standard output.
fn run_ssh_keygen(file: &Path, namespace: &str, payload: &[u8]) -> Result<String, KeyError> {
    let refused = |source| file_error("cannot run ssh-keygen for the key", file, source);
    let mut child = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(refused)?;
    if let Some(mut stdin) = child.stdin.take() {
        // The exit code shows a refusal; a closed pipe shows only that there was one.
        let _ = stdin.write_all(payload);
    }
    let output = child.wait_with_output().map_err(refused)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() && text.contains("BEGIN SSH SIGNATURE") {
        return Ok(text);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let what = format!(
        "ssh-keygen does not sign: {}; is the agent running? Name a root key that is stored \
         elsewhere with --root-key FILE",
        complaint.trim()
    );
    Err(unusable(file, &what))
}
