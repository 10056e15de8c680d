//! Places the values of this machine: files of the tree, and files of the running system.
//!
//! `docs/FLEET.md` (F12) is the specification.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use layerfmt::Digest;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};
use wire::machine_key::{hex, unhex};
use wire::manifest::{MachineValue, sealed_name};

use crate::push::PatternList;
use crate::secrets::MachineLayer;

/// The file that lists what was placed in the tree.
pub(crate) const PLACED: &str = "etc/layerfs/values.json";
/// Longest file that a value replaces, bytes.
const FILE_LEN_MAX: u64 = 64 << 10;

/// A file that a value made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlacedFile {
    /// BLAKE3 of its contents.
    pub digest: Digest,
    /// The contents before, as hexadecimal digits; absent: there was no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// The files that values made, by their paths from the root.
pub(crate) type Placed = BTreeMap<String, PlacedFile>;

/// The files of the tree that a record asks for.
fn wanted(layer: &MachineLayer) -> BTreeMap<&'static str, String> {
    let mut files = BTreeMap::new();
    for (name, value) in &layer.record.values {
        let MachineValue::Text(value) = value else {
            continue;
        };
        match name.as_str() {
            "hostname" => drop(files.insert("etc/hostname", format!("{value}\n"))),
            "locale" => {
                files.insert("etc/locale.conf", format!("LANG={value}\n"));
                files.insert("etc/default/locale", format!("LANG={value}\n"));
            }
            "printer" => drop(files.insert("etc/cups/lpoptions", format!("Default {value}\n"))),
            _ => {}
        }
    }
    files
}

/// The files that the values of a machine made in an upper, as patterns of a push: they belong to
/// the machine, not to the system. A file that the machine has changed since then belongs to the
/// push.
pub(crate) fn placed_files(upper: &Path) -> Option<PatternList> {
    let bytes = std::fs::read(upper.join(PLACED)).ok()?;
    let placed: Placed = serde_json::from_slice(&bytes).ok()?;
    let unchanged = placed.iter().filter(|(path, placed)| {
        let found = std::fs::read(upper.join(path));
        found.is_ok_and(|bytes| Digest::of(&bytes) == placed.digest)
    });
    let mut text = format!("/{PLACED}\n");
    for (path, _) in unchanged {
        text.push_str(&format!("/{path}\n"));
    }
    Some(PatternList {
        place: "the values of this machine".into(),
        text,
    })
}

/// Places the values. A failure is logged: the system starts without that value.
pub(crate) fn place(root: &Path, writable: bool, layer: &MachineLayer, running: &Path) {
    if let Err(error) = run(layer, running) {
        tracing::error!(
            error = format!("{error:#}"),
            "the values of this machine are not in {}",
            running.display()
        );
    }
    if !writable {
        tracing::warn!(
            "the mount has no upper: the values of this machine are only in {}",
            running.display()
        );
        return;
    }
    if let Err(error) = in_tree(root, layer) {
        tracing::error!(
            error = format!("{error:#}"),
            "the values of this machine are not in its files"
        );
    }
}

/// Writes every value to a file of the running system, and opens the secrets.
fn run(layer: &MachineLayer, running: &Path) -> anyhow::Result<()> {
    let at = || running.display().to_string();
    match std::fs::remove_dir_all(running) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(at);
        }
        _ => {}
    }
    // The mount has no umask.
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o755).create(running);
    made.with_context(at)?;
    for (name, value) in &layer.record.values {
        let (bytes, mode) = match value {
            MachineValue::Text(text) => (text.clone().into_bytes(), 0o644),
            MachineValue::Sealed(sealed) => match open(layer, name, sealed) {
                Ok(opened) => (opened, 0o600),
                Err(error) => {
                    tracing::error!(name, error, "a secret of this machine cannot be opened");
                    continue;
                }
            },
        };
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(running.join(name));
        file.and_then(|mut file| {
            file.set_permissions(std::fs::Permissions::from_mode(mode))?;
            file.write_all(&bytes)
        })
        .with_context(|| name.clone())?;
    }
    Ok(())
}

fn open(layer: &MachineLayer, name: &str, sealed: &str) -> Result<Vec<u8>, String> {
    let key = layer.key.as_ref().ok_or("the machine has no key")?;
    let bytes = unhex(sealed).ok_or("it is damaged")?;
    let opened = key.open(&sealed_name(&layer.record.machine, name), &bytes);
    opened.map_err(|error| error.to_string())
}

/// Writes the files of the tree, except those that the machine has changed since the last time.
fn in_tree(root: &Path, layer: &MachineLayer) -> anyhow::Result<()> {
    let tree = MountedTree::open(root)?;
    let mut placed = tree.placed();
    let before = placed.clone();
    let wanted = wanted(layer);
    for (path, contents) in &wanted {
        let found = tree.read(path)?;
        let digest = Digest::of(contents.as_bytes());
        match placed.get(*path) {
            Some(old) if found.as_deref().map(Digest::of) != Some(old.digest) => {
                tracing::info!(path, "was changed on this machine: it stays");
                continue;
            }
            Some(old) if old.digest == digest => continue,
            Some(old) => {
                let before = old.before.clone();
                placed.insert((*path).to_owned(), PlacedFile { digest, before });
            }
            None => {
                let before = found.as_deref().map(hex);
                placed.insert((*path).to_owned(), PlacedFile { digest, before });
            }
        }
        tree.write(path, contents.as_bytes())?;
    }
    for (path, old) in before
        .iter()
        .filter(|(path, _)| !wanted.contains_key(path.as_str()))
    {
        if tree.read(path)?.as_deref().map(Digest::of) == Some(old.digest) {
            match old.before.as_deref().and_then(unhex) {
                Some(before) => tree.write(path, &before)?,
                None => tree.remove(path)?,
            }
        }
        placed.remove(path);
    }
    if placed != before {
        tree.write(PLACED, &serde_json::to_vec(&placed)?)?;
    }
    Ok(())
}

/// The files of the mounted tree; links lead to files of the same tree.
struct MountedTree(OwnedFd);

impl MountedTree {
    fn open(root: &Path) -> anyhow::Result<MountedTree> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(root, flags, Mode::empty());
        opened
            .map(MountedTree)
            .with_context(|| root.display().to_string())
    }

    fn file(&self, path: &str, flags: OFlags) -> rustix::io::Result<std::fs::File> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let mode = if flags.contains(OFlags::CREATE) {
            Mode::from_raw_mode(0o644)
        } else {
            Mode::empty()
        };
        rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, resolve).map(Into::into)
    }

    fn read(&self, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let file = match self.file(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            file => file.with_context(|| path.to_owned())?,
        };
        let mut bytes = Vec::new();
        let read = file.take(FILE_LEN_MAX).read_to_end(&mut bytes);
        read.with_context(|| path.to_owned())?;
        Ok(Some(bytes))
    }

    fn write(&self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = match self.file(path, flags) {
            Err(rustix::io::Errno::NOENT) => {
                self.make_parent(path)?;
                self.file(path, flags)
            }
            file => file,
        }
        .with_context(|| path.to_owned())?;
        file.write_all(bytes).with_context(|| path.to_owned())
    }

    fn make_parent(&self, path: &str) -> anyhow::Result<()> {
        let Some((parent, _)) = path.rsplit_once('/') else {
            return Ok(());
        };
        match rustix::fs::mkdirat(&self.0, parent, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno).with_context(|| parent.to_owned()),
        }
    }

    fn remove(&self, path: &str) -> anyhow::Result<()> {
        rustix::fs::unlinkat(&self.0, path, AtFlags::empty()).with_context(|| path.to_owned())
    }

    fn placed(&self) -> Placed {
        let bytes = self.read(PLACED).ok().flatten().unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wire::machine_key::SecretKey;
    use wire::manifest::ValuesRecord;

    fn layer(values: &[(&str, MachineValue)], key: Option<u8>) -> MachineLayer {
        let record = ValuesRecord {
            author: "ann".into(),
            expires_at: None,
            format: 1,
            issued_at: 1,
            machine: "pc17".into(),
            message: String::new(),
            number: 1,
            previous: None,
            values: values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        };
        MachineLayer {
            record,
            key: key.map(|seed| Arc::new(SecretKey::of(&[seed; 32]))),
        }
    }

    fn text(text: &str) -> MachineValue {
        MachineValue::Text(text.into())
    }

    /// docs/FLEET.md F12.5, F12.6: values are placed, changed and taken back; a file that the user
    /// changed stays.
    #[test]
    fn files_follow_the_values_until_somebody_changes_them() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir_all(etc.join("default")).unwrap();
        std::fs::create_dir_all(etc.join("layerfs")).unwrap();
        std::fs::write(etc.join("hostname"), "image\n").unwrap();
        let read = |path: &str| std::fs::read_to_string(etc.join(path)).ok();
        let running = root.path().join("run");
        let set = |values: &[(&str, MachineValue)]| {
            place(root.path(), true, &layer(values, None), &running)
        };
        set(&[
            ("hostname", text("pc17")),
            ("locale", text("de_DE.UTF-8")),
            ("desk", text("4")),
        ]);
        assert_eq!(read("hostname").as_deref(), Some("pc17\n"));
        assert_eq!(read("locale.conf").as_deref(), Some("LANG=de_DE.UTF-8\n"));
        assert_eq!(
            read("default/locale").as_deref(),
            Some("LANG=de_DE.UTF-8\n")
        );
        assert_eq!(std::fs::read_to_string(running.join("desk")).unwrap(), "4");
        set(&[("hostname", text("pc18")), ("printer", text("hall"))]);
        assert_eq!(read("hostname").as_deref(), Some("pc18\n"));
        assert_eq!(read("cups/lpoptions").as_deref(), Some("Default hall\n"));
        assert_eq!((read("locale.conf"), read("default/locale")), (None, None));
        assert!(!running.join("desk").exists());
        // The user's change has precedence, as with any layer below it.
        std::fs::write(etc.join("cups/lpoptions"), "Default mine\n").unwrap();
        set(&[("printer", text("desk"))]);
        assert_eq!(read("cups/lpoptions").as_deref(), Some("Default mine\n"));
        assert_eq!(read("hostname").as_deref(), Some("image\n"));
        // F12.7: a push sends what the user changed, and nothing that the values made.
        set(&[("hostname", text("pc19")), ("printer", text("desk"))]);
        let patterns = placed_files(root.path()).unwrap().text;
        assert_eq!(patterns, "/etc/layerfs/values.json\n/etc/hostname\n");
        set(&[]);
        assert_eq!(read("cups/lpoptions").as_deref(), Some("Default mine\n"));
    }

    /// F12.4: only the machine's key opens a secret; the others have no file.
    #[test]
    fn a_secret_is_opened_with_the_own_key_only() {
        let root = tempfile::tempdir().unwrap();
        let running = root.path().join("run");
        let seal = |seed: u8, name: &str| {
            let key = SecretKey::of(&[seed; 32]).public();
            MachineValue::Sealed(hex(&key.seal(name, b"hunter2", [9; 32]).unwrap()))
        };
        let values = [
            ("own", seal(1, "pc17/own")),
            ("other", seal(2, "pc17/other")),
            ("moved", seal(1, "pc18/moved")),
        ];
        place(root.path(), false, &layer(&values, Some(1)), &running);
        assert_eq!(std::fs::read(running.join("own")).unwrap(), b"hunter2");
        let mode = std::fs::metadata(running.join("own"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&running).unwrap().count(), 1);
        place(root.path(), false, &layer(&values, None), &running);
        assert_eq!(std::fs::read_dir(&running).unwrap().count(), 0);
    }
}
