//! The bakery's own keys: a root key that signs keysets, a head key that signs heads.
//!
//! They are in a separate directory, never inside the store, which is public. Only `bakery key …`
//! needs the root key, which is better stored elsewhere. A key may also be a `.pub` file alone, or
//! be locked by a passphrase: then `ssh-keygen` signs, through the agent.

mod keyset;
mod lifetime;
mod signer;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use wire::manifest::ProfileName;
use wire::trust::{AllowedSigners, KEYSET_NAMESPACE, KEYSET_PRINCIPAL, TrustError};

pub use keyset::{amend, first, newest};
pub(crate) use keyset::{hand_over, signer_of};
pub use signer::RecordSigner;
pub(crate) use signer::signing_line;

use crate::store::{StoreError, ownership};

/// File name of the root key.
const ROOT: &str = "root";
/// File name of the key that signs heads.
const HEAD: &str = "head";
/// The keys that clients trust: part of their initramfs.
const ALLOWED_SIGNERS: &str = "allowed_signers";

/// Errors of keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("{doing} {path}")]
    File {
        /// The failed operation.
        doing: &'static str,
        /// The affected file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Not a key we can sign with.
    #[error("{path}: {what}")]
    Unusable {
        /// The affected file.
        path: PathBuf,
        /// The reason and the remedy.
        what: String,
    },
    /// A key of this name is not in the keyset, or exists already.
    #[error("{0}")]
    Keyset(String),
    /// The chain of keysets does not hold.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The directory of the bakery's keys.
#[derive(Debug, Clone)]
pub struct Keys {
    directory: PathBuf,
}

impl Keys {
    /// The directory named explicitly, or `STORE.keys` beside a local store.
    ///
    /// # Errors
    /// The store is not a directory and none is named.
    pub fn locate(explicit: Option<&Path>, store: &str) -> Result<Keys, KeyError> {
        if let Some(directory) = explicit {
            return Ok(Keys {
                directory: directory.into(),
            });
        }
        let path = store
            .strip_prefix("file://")
            .unwrap_or(store)
            .trim_end_matches('/');
        if path.contains("://") {
            return Err(KeyError::Unusable {
                path: store.into(),
                what: "keys cannot be stored beside a bucket: give --keys DIR, or set BAKERY_KEYS"
                    .into(),
            });
        }
        Ok(Keys {
            directory: format!("{path}.keys").into(),
        })
    }

    /// Make the directory and both keys, keeping those that are there.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn create(&self) -> Result<(), KeyError> {
        let path = &self.directory;
        let above = path.ancestors().skip(1).find(|above| above.is_dir());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .and_then(|()| above.map_or(Ok(()), |above| ownership::inherit(above, path)))
            .map_err(|source| file_error("cannot make", path, source))?;
        for name in [ROOT, HEAD] {
            let file = path.join(name);
            if !file.exists() && !public_of(&file).exists() {
                generate(&file, name)?;
            }
        }
        let root = self.root(None)?;
        let line = format!(
            "{KEYSET_PRINCIPAL} namespaces=\"{KEYSET_NAMESPACE}\" {}\n",
            root.public_line()
        );
        let file = self.directory.join(ALLOWED_SIGNERS);
        fs::write(&file, line)
            .and_then(|()| ownership::inherit(path, &file))
            .map_err(|source| file_error("cannot write", &file, source))
    }

    /// The key with which the machines of a system push: its text and its public half. Made if it does not
    /// exist.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn push_key(&self, name: &ProfileName) -> Result<(String, ssh_key::PublicKey), KeyError> {
        // No name of a system or profile contains an @: each pair has its own key.
        let own = format!("push-{}@{}", name.system, name.profile);
        let file = self.directory.join(&own);
        if !file.exists() {
            generate(&file, &own)?;
        }
        let text =
            fs::read_to_string(&file).map_err(|source| file_error("cannot read", &file, source))?;
        let key = PrivateKey::from_openssh(&text).map_err(|e| unusable(&file, &e.to_string()))?;
        Ok((text, key.public_key().clone()))
    }

    /// Their directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The keys that clients of this bakery trust: its `allowed_signers`.
    ///
    /// # Errors
    /// When the file is not there or cannot be used.
    pub fn anchors(&self) -> Result<AllowedSigners, KeyError> {
        let file = self.directory.join(ALLOWED_SIGNERS);
        let text = fs::read_to_string(&file)
            .map_err(|source| file_error("cannot read the trusted keys", &file, source))?;
        Ok(AllowedSigners::parse(&text)?)
    }

    /// The key that signs heads.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn head(&self) -> Result<RecordSigner, KeyError> {
        RecordSigner::open(&self.directory.join(HEAD))
    }

    /// The root key: `explicit`, or the one in the directory.
    ///
    /// # Errors
    /// It does not exist, which is normal between uses.
    pub fn root(&self, explicit: Option<&Path>) -> Result<RecordSigner, KeyError> {
        match explicit {
            Some(path) => RecordSigner::open(path),
            None => RecordSigner::open(&self.directory.join(ROOT)),
        }
    }

    /// Makes a head key beside the old one, as `head.new`, until [`Keys::adopt_new_head`].
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn new_head(&self) -> Result<RecordSigner, KeyError> {
        self.fresh(HEAD)
    }

    /// Makes a root key like [`Keys::new_head`]: `root.new`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new_root(&self) -> Result<RecordSigner, KeyError> {
        self.fresh(ROOT)
    }

    fn fresh(&self, name: &str) -> Result<RecordSigner, KeyError> {
        let file = self.directory.join(format!("{name}.new"));
        if !file.exists() {
            generate(&file, name)?;
        }
        RecordSigner::open(&file)
    }

    /// Replaces the head key by `head.new`; the old one becomes `head.old`.
    ///
    /// # Errors
    /// The files cannot be renamed.
    pub(crate) fn adopt_new_head(&self) -> Result<(), KeyError> {
        self.adopt(HEAD)
    }

    /// Replaces the root key by `root.new`, if it is here; the old one becomes `root.old`.
    ///
    /// # Errors
    /// The files cannot be renamed.
    pub(crate) fn adopt_new_root(&self) -> Result<(), KeyError> {
        self.adopt(ROOT)
    }

    fn adopt(&self, name: &str) -> Result<(), KeyError> {
        if !self.directory.join(format!("{name}.new")).exists() {
            return Ok(());
        }
        let at = |end: &str| self.directory.join(format!("{name}{end}"));
        for (from, to) in [
            ("", ".old"),
            (".pub", ".old.pub"),
            (".new.pub", ".pub"),
            (".new", ""),
        ] {
            let (from, to) = (at(from), at(to));
            if from.exists() {
                fs::rename(&from, &to)
                    .map_err(|source| file_error("cannot rename", &from, source))?;
            }
        }
        Ok(())
    }

    /// Makes clients of this bakery trust the root key `new` instead of `old`: in
    /// `allowed_signers`, which is part of every future initramfs. Lines about other keys stay.
    ///
    /// # Errors
    /// The file cannot be replaced.
    pub(crate) fn replace_anchor(&self, old: &str, new: &str) -> Result<(), KeyError> {
        let file = self.directory.join(ALLOWED_SIGNERS);
        let text = fs::read_to_string(&file)
            .map_err(|source| file_error("cannot read the trusted keys", &file, source))?;
        let failed = |source| file_error("cannot write", &file, source);
        let mut written = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed)?;
        written
            .write_all(text.replace(old, new).as_bytes())
            .and_then(|()| {
                written
                    .as_file()
                    .set_permissions(fs::Permissions::from_mode(0o644))
            })
            .and_then(|()| ownership::inherit(&self.directory, written.path()))
            .and_then(|()| written.as_file().sync_all())
            .map_err(failed)?;
        written
            .persist(&file)
            .map_err(|error| failed(error.error))?;
        Ok(())
    }
}

impl Keys {
    /// Writes `allowed_signers` for a store that signs nothing itself: a mirror. The same text
    /// again is no change.
    ///
    /// # Errors
    /// The store trusts other keys already, or the file cannot be written.
    pub fn trust_only(&self, text: &str) -> Result<(), KeyError> {
        let file = self.directory.join(ALLOWED_SIGNERS);
        match fs::read_to_string(&file) {
            Ok(there) if there == text => Ok(()),
            Ok(_) => Err(unusable(
                &file,
                "the store trusts other keys; to trust the new ones, delete this file",
            )),
            Err(_) => {
                ownership::create_dir_all(&self.directory)
                    .map_err(|source| file_error("cannot make", &self.directory, source))?;
                write_new(&file, text.as_bytes(), 0o644)
            }
        }
    }
}

/// Make an ed25519 key pair in OpenSSH's form.
fn generate(file: &Path, comment: &str) -> Result<(), KeyError> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut seed))
        .map_err(|source| file_error("cannot read", Path::new("/dev/urandom"), source))?;
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    let unusable = |e: ssh_key::Error| unusable(file, &e.to_string());
    let key = PrivateKey::new(pair, format!("bakery-{comment}")).map_err(unusable)?;
    let text = key.to_openssh(LineEnding::LF).map_err(unusable)?;
    write_new(file, text.as_bytes(), 0o600)?;
    let public = key.public_key().to_openssh().map_err(unusable)?;
    write_new(&public_of(file), format!("{public}\n").as_bytes(), 0o644)
}

/// Writes a new file. It belongs to the account that owns the directory.
fn write_new(file: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(file)
        .and_then(|mut opened| {
            opened.write_all(bytes)?;
            opened.sync_all()
        });
    let owned = written.and_then(|()| {
        let directory = file.parent().unwrap_or(Path::new("/"));
        ownership::inherit(directory, file)
    });
    owned.map_err(|source| file_error("cannot write the key", file, source))
}

fn public_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn file_error(doing: &'static str, path: &Path, source: std::io::Error) -> KeyError {
    KeyError::File {
        doing,
        path: path.into(),
        source,
    }
}

fn unusable(path: &Path, what: &str) -> KeyError {
    KeyError::Unusable {
        path: path.into(),
        what: what.into(),
    }
}

#[cfg(test)]
mod tests;
