//! The secrets of this machine: its key, to which its secret values are sealed, the room's token, and
//! its values.
//!
//! `docs/FLEET.md` (F7, F12) is the specification.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wire::hello::{Hello, HelloError};
use wire::machine_key::{SECRET_LEN, SecretKey};
use wire::manifest::ValuesRecord;
use wire::proof::RoomToken;

/// Directory of the key below that of the cache or the backup.
const DIRECTORY: &str = "machine-1";
/// The room's token in the initramfs.
const TOKEN_DEFAULT: &str = "/etc/layerfs/token";
/// Longest token file, bytes.
const TOKEN_LEN_MAX: u64 = 4096;

/// The secrets of this machine: they prove its hellos.
#[derive(Debug, Default)]
pub(crate) struct MachineSecrets {
    /// The key on the disk of the cache or the backup.
    pub key: Option<Arc<SecretKey>>,
    /// The token of the room.
    pub token: Option<RoomToken>,
}

impl MachineSecrets {
    /// Reads the secrets; makes a key if the machine has a disk and no key yet.
    ///
    /// `disk` is the directory of the cache or the backup.
    pub(crate) fn of(disk: Option<&Path>) -> MachineSecrets {
        let disk = disk.map(|path| path.join(DIRECTORY));
        let key = disk.as_deref().and_then(|disk| match key_in(disk) {
            Ok(key) => Some(Arc::new(key)),
            Err(error) => {
                tracing::warn!(path = %disk.display(), %error, "the machine has no key: its secrets cannot be opened");
                None
            }
        });
        let places = disk.map(|disk| disk.join("token")).into_iter();
        let mut places = places.chain([PathBuf::from(TOKEN_DEFAULT)]);
        MachineSecrets {
            key,
            token: places.find_map(|path| token_in(&path)),
        }
    }

    /// Names the key in a hello, and encodes the hello with its proofs.
    pub(crate) fn prove(&self, hello: &Hello) -> Result<Vec<u8>, HelloError> {
        let mut hello = hello.clone();
        hello.key = self.key.as_ref().map(|key| key.public());
        let body = hello.encode()?;
        Ok(wire::proof::append(
            body,
            self.token.as_ref(),
            self.key.as_deref(),
        ))
    }
}

fn token_in(path: &Path) -> Option<RoomToken> {
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(TOKEN_LEN_MAX).read_to_string(&mut text).ok()?;
    let token = RoomToken::of(&text);
    if token.is_none() {
        tracing::warn!(path = %path.display(), "this room token has fewer than 16 bytes: it is not used");
    }
    token
}

/// The key in a directory; a new one if it has none. Only root may read it.
fn key_in(directory: &Path) -> std::io::Result<SecretKey> {
    let path = directory.join("key");
    let read = || -> std::io::Result<SecretKey> {
        let mut secret = [0; SECRET_LEN];
        std::fs::File::open(&path)?.read_exact(&mut secret)?;
        Ok(SecretKey::of(&secret))
    };
    match read() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        found => return found,
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)?;
    let mut secret = [0; SECRET_LEN];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let new = directory.join(format!("key.{}.new", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    // Another mount may have made one in the meantime.
    let linked = std::fs::hard_link(&new, &path);
    std::fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => {
            std::fs::File::open(directory)?.sync_all()?;
            read()
        }
    }
}

/// The values of this machine, and the key that opens the sealed ones.
#[derive(Debug, Clone)]
pub struct MachineLayer {
    /// The verified record.
    pub record: ValuesRecord,
    /// The key of the machine.
    pub key: Option<Arc<SecretKey>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let disk = tempfile::tempdir().unwrap();
        let directory = disk.path().join(DIRECTORY);
        let first = key_in(&directory).unwrap().public();
        assert_eq!(key_in(&directory).unwrap().public(), first);
        let mode = std::fs::metadata(directory.join("key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        // A damaged key is reported, not replaced: the secrets are sealed to it.
        std::fs::write(directory.join("key"), "short").unwrap();
        assert!(key_in(&directory).is_err());
    }
}
