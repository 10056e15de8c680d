//! Removes the identity of one machine from a tree, without making each boot a first boot. systemd treats a
//! missing `etc/machine-id` as a first boot, and then enables every unit that no preset disables; it only fills
//! in an empty one. `etc/.updated` and `var/.updated` record the `/usr` for which their directories were last
//! updated; without them the updating units run at every boot.

use layerfmt::tree::{Child, Directory, Kind, Metadata, Name, Node, NodeId, ROOT, Time};
use wire::exclude::Excludes;

use super::MachineError;
use super::{MachineNotes, Writing};
use crate::assemble::Contents;

const MACHINE_ID: &str = "etc/machine-id";
const DBUS_MACHINE_ID: &str = "var/lib/dbus/machine-id";
/// Directories of SSH host keys: the usual one, and ALT's.
const HOST_KEYS: &[&str] = &["etc/ssh", "etc/openssh"];
/// Units that need host keys.
const SSH_UNITS: &[&str] = &["ssh.service", "sshd.service", "ssh.socket", "sshd.socket"];
const UNIT_DIRECTORIES: &[&str] = &[
    "etc/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
const HOST_KEYS_UNIT: &str = "layerfs-host-keys.service";
/// Makes the missing host keys of a machine. The distributions' own units run first; Debian's runs
/// only at a first boot. An RSA key would take seconds of each boot, so one is made only if
/// `sshd_config` names its keys.
const HOST_KEYS_UNIT_TEXT: &str = "\
# Written by bakery import: the host keys of the machine that was imported stay out.
[Unit]
Description=Make the SSH host keys of this machine
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
ConditionPathExistsGlob=!/etc/openssh/ssh_host_*_key
ConditionPathIsReadWrite=/etc
After=sshd-keygen.service sshd-keygen.target sshdgenkeys.service
Before=ssh.service sshd.service

[Service]
Type=oneshot
RemainAfterExit=yes
# Every client knows ed25519, and such a key is made at once. ssh-keygen -A makes all kinds.
ExecStart=/bin/sh -c 'for d in /etc/openssh /etc/ssh; do [ ! -d $$d ] || break; done; \
if grep -qsi \"^[[:space:]]*HostKey[[:space:]]\" $$d/sshd_config $$d/sshd_config.d/*.conf || \
! ssh-keygen -q -t ed25519 -N \"\" -f $$d/ssh_host_ed25519_key; then ssh-keygen -A; fi'
";

/// Empties the machine's identity, unless the excludes include it. Trees without systemd, or
/// without users, stay unchanged: the latter are filled at their first boot.
pub(super) fn prepare<C: Contents>(
    writing: &mut Writing<'_, C>,
    excludes: &Excludes,
    said: &mut MachineNotes,
) -> Result<(), MachineError> {
    if excludes.pattern_for(MACHINE_ID.as_bytes(), false).is_none() || !writing.is_directory("etc")
    {
        return Ok(());
    }
    let has_systemd = ["usr/lib/systemd/systemd", "lib/systemd/systemd"]
        .iter()
        .any(|path| writing.has(path));
    if has_systemd && writing.has("etc/passwd") {
        if !writing.has(MACHINE_ID) {
            let node = writing.file(MACHINE_ID, 0o444, b"", None)?;
            writing.put(MACHINE_ID, node)?;
        }
        for directory in ["etc", "var"] {
            stamp(writing, directory)?;
        }
        said.notes.push(format!(
            "{MACHINE_ID} was emptied: every machine gets its own ID, and no boot is a first boot"
        ));
    }
    if writing.is_directory("var/lib/dbus")
        && writing.has(MACHINE_ID)
        && !writing.has(DBUS_MACHINE_ID)
    {
        let kind = Kind::Symlink(format!("/{MACHINE_ID}").into_bytes().into());
        let meta = Metadata {
            mode: 0o777,
            mtime: writing.time_of("var/lib/dbus"),
            ..Metadata::default()
        };
        writing.put(DBUS_MACHINE_ID, Node { meta, kind })?;
    }
    host_keys(writing, has_systemd, said)
}

/// Records that `directory` was updated for the tree's `/usr`.
fn stamp<C: Contents>(writing: &mut Writing<'_, C>, directory: &str) -> Result<(), MachineError> {
    if !writing.is_directory(directory) || !writing.is_directory("usr") {
        return Ok(());
    }
    let path = format!("{directory}/.updated");
    let usr = writing.time_of("usr");
    let nanoseconds = i128::from(usr.sec) * 1_000_000_000 + i128::from(usr.nsec);
    let text = format!(
        "# Written by bakery import: /{directory} was updated for a /usr of this modification time.\nTIMESTAMP_NSEC={nanoseconds}\n"
    );
    let node = writing.file(&path, 0o644, text.as_bytes(), Some(usr))?;
    writing.put(&path, node)
}

/// Adds a service that makes the missing host keys, because they are excluded.
fn host_keys<C: Contents>(
    writing: &mut Writing<'_, C>,
    has_systemd: bool,
    said: &mut MachineNotes,
) -> Result<(), MachineError> {
    let has_server = ["usr/sbin/sshd", "usr/bin/sshd"]
        .iter()
        .any(|path| writing.has(path));
    let are_there = HOST_KEYS
        .iter()
        .any(|directory| writing.has_host_key(directory));
    if !has_server || are_there || !writing.has("usr/bin/ssh-keygen") {
        return Ok(());
    }
    let units: Vec<&str> = SSH_UNITS
        .iter()
        .copied()
        .filter(|unit| {
            let mut places = UNIT_DIRECTORIES.iter();
            places.any(|directory| writing.has(&format!("{directory}/{unit}")))
        })
        .collect();
    if !has_systemd || units.is_empty() {
        if writing.has("etc/init.d/ssh") {
            said.warnings.push(
                "etc/ssh: the host keys are excluded, and etc/init.d/ssh makes none: run ssh-keygen -A before it, or keep them with --exclude '!/etc/ssh/ssh_host_*'"
                    .to_owned(),
            );
        }
        return Ok(());
    }
    let unit = format!("etc/systemd/system/{HOST_KEYS_UNIT}");
    let node = writing.file(&unit, 0o644, HOST_KEYS_UNIT_TEXT.as_bytes(), None)?;
    writing.put(&unit, node)?;
    for user in units {
        let link = Node {
            meta: Metadata {
                mode: 0o777,
                mtime: writing.time_of("etc"),
                ..Metadata::default()
            },
            kind: Kind::Symlink(format!("../{HOST_KEYS_UNIT}").into_bytes().into()),
        };
        writing.put(
            &format!("etc/systemd/system/{user}.wants/{HOST_KEYS_UNIT}"),
            link,
        )?;
    }
    said.notes.push(format!(
        "etc/ssh: the host keys are excluded; {HOST_KEYS_UNIT} makes the missing keys of each machine before SSH starts"
    ));
    Ok(())
}

impl<C: Contents> Writing<'_, C> {
    fn time_of(&self, path: &str) -> Time {
        let node = self
            .tree
            .resolve(path.as_bytes())
            .and_then(|id| self.tree.node(id));
        node.map(|node| node.meta.mtime).unwrap_or_default()
    }

    /// A regular file of root; its time is `etc`'s unless another is given.
    fn file(
        &mut self,
        path: &str,
        mode: u16,
        bytes: &[u8],
        time: Option<Time>,
    ) -> Result<Node<C::Content>, MachineError> {
        let meta = Metadata {
            mode,
            mtime: time.unwrap_or_else(|| self.time_of("etc")),
            ..Metadata::default()
        };
        let kind = Kind::File(self.store(path, bytes)?);
        Ok(Node { meta, kind })
    }

    /// Puts a node in its place, which others may have had before; makes the directories on the way.
    fn put(&mut self, path: &str, node: Node<C::Content>) -> Result<(), MachineError> {
        let (parents, last) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = ROOT;
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            at = match self.tree.child(at, part.as_bytes()) {
                Some(Child::Node(id)) => id,
                _ => self.directory(at, part)?,
            };
        }
        self.tree.insert(at, tree_name(last)?, node)?;
        Ok(())
    }

    fn directory(&mut self, parent: NodeId, name: &str) -> Result<NodeId, MachineError> {
        let meta = Metadata {
            mode: 0o755,
            mtime: self.time_of("etc"),
            ..Metadata::default()
        };
        let kind = Kind::Directory(Directory::default());
        Ok(self
            .tree
            .insert(parent, tree_name(name)?, Node { meta, kind })?)
    }

    fn has_host_key(&self, directory: &str) -> bool {
        let Some(id) = self
            .tree
            .resolve(directory.as_bytes())
            .filter(|id| self.tree.directory(*id).is_some())
        else {
            return false;
        };
        let mut names = self.tree.entries(id).map(|(name, _)| name.as_bytes());
        names.any(|name| name.starts_with(b"ssh_host_") && name.ends_with(b"_key"))
    }
}

fn tree_name(name: &str) -> Result<Name, MachineError> {
    Name::new(name.as_bytes()).map_err(|_| MachineError::Name(name.to_owned()))
}
