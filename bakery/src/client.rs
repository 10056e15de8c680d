//! The client inside a system: the files that let a machine booted from it push and report.
//!
//! They are one small layer on top of the system. A newer client is a further layer, so each change is in
//! the history like any other.

use std::fs;
use std::io;
use std::path::PathBuf;

use layerfmt::tree::Time;
use wire::tar::{ArchiveEntry, ArchiveKind};

use crate::failed::Doing as _;
use crate::initrd::elf;
use crate::initrd::error::{Result, refuse};
use crate::initrd::system_tree::{SystemTree, resolve};

/// The path of a machine's push key.
pub(crate) const PUSH_KEY: &str = "etc/layerfs/push_key";
/// The path of the bakery's host keys, for ssh.
pub(crate) const KNOWN_HOSTS: &str = "etc/layerfs/known_hosts";
/// The directory of sshd's public host keys on this server.
const HOST_KEYS: &str = "/etc/ssh";

/// The services that report each boot and the machine's health, and that follow new revisions.
const SERVICES: [(&str, &str); 3] = [
    (
        "layerfs-boot-report.service",
        include_str!("../../dist/systemd/layerfs-boot-report.service"),
    ),
    (
        "layerfs-hello.service",
        include_str!("../../dist/systemd/layerfs-hello.service"),
    ),
    (
        "layerfs-follow.service",
        include_str!("../../dist/systemd/layerfs-follow.service"),
    ),
];
/// Programs that mount(8) starts, by their names in `/sbin`.
const HELPERS: [&str; 2] = ["mount.layerfs", "mount.fuse.layerfs"];

/// The contents of the layer.
#[derive(Debug)]
pub(crate) struct Client {
    /// The static client.
    pub program: PathBuf,
    /// The private key to push with, in OpenSSH's form.
    pub push_key: Option<String>,
    /// Lines of a known_hosts file.
    pub known_hosts: String,
    /// Modification time of the files, seconds since 1970.
    pub time: u64,
}

/// The host keys of this machine as lines of a known_hosts file. They count for every name of the server: clients use
/// the file for pushes alone.
///
/// # Errors
/// A key that is there cannot be read.
pub(crate) fn host_keys() -> io::Result<String> {
    let mut lines = Vec::new();
    let Ok(entries) = fs::read_dir(HOST_KEYS) else {
        return Ok(String::new());
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("ssh_host_") && name.ends_with("_key.pub") {
            let text = fs::read_to_string(&path)?;
            let mut words = text.split_ascii_whitespace();
            if let (Some(kind), Some(key)) = (words.next(), words.next()) {
                lines.push(format!("* {kind} {key}\n"));
            }
        }
    }
    lines.sort();
    Ok(lines.concat())
}

impl Client {
    /// Writes the layer's files as a tar archive for the system in `tree`.
    ///
    /// # Errors
    /// The client cannot be read, the tree cannot be read, or the archive cannot be written.
    pub(crate) fn write(&self, tree: &dyn SystemTree, archive: fs::File) -> Result<()> {
        let mut archive = ClientArchive {
            tar: wire::tar::Archive::new(archive),
            time: self.time,
        };
        let program =
            fs::read(&self.program).doing(|| format!("cannot read {}", self.program.display()))?;
        if !elf::is_static(&program) {
            let named = self.program.display();
            refuse!(
                "{named} is not a static program, and the system may lack its libraries: `make static` builds one"
            );
        }
        let programs = place(tree, "usr/bin")?;
        archive.file(&format!("{programs}/layerfs"), 0o755, &program)?;
        // mount(8) looks for its helpers in /sbin, which may be a link.
        let helpers = place(tree, "sbin")?;
        for helper in HELPERS {
            archive.link(&format!("{helpers}/{helper}"), "/usr/bin/layerfs")?;
        }
        let units = "etc/systemd/system";
        for (name, text) in SERVICES {
            archive.file(&format!("{units}/{name}"), 0o644, text.as_bytes())?;
            let wanted = format!("{units}/multi-user.target.wants/{name}");
            archive.link(&wanted, &format!("/{units}/{name}"))?;
        }
        if let Some(key) = &self.push_key {
            archive.file(PUSH_KEY, 0o600, key.as_bytes())?;
        }
        if !self.known_hosts.is_empty() {
            archive.file(KNOWN_HOSTS, 0o644, self.known_hosts.as_bytes())?;
        }
        archive
            .tar
            .finish()
            .doing(|| "cannot write the layer's files".into())?;
        Ok(())
    }
}

/// The target directory of `path` in the tree; `path` itself if it does not exist.
fn place(tree: &dyn SystemTree, path: &str) -> Result<String> {
    Ok(resolve(tree, path)?.unwrap_or_else(|| path.to_owned()))
}

struct ClientArchive {
    tar: wire::tar::Archive<fs::File>,
    time: u64,
}

impl ClientArchive {
    fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.put(
            path,
            ArchiveKind::File(bytes.len() as u64, None),
            mode,
            bytes,
        )
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.put(path, ArchiveKind::Symlink(target.as_bytes()), 0o777, b"")
    }

    fn put(
        &mut self,
        path: &str,
        kind: ArchiveKind<'_>,
        mode: u32,
        mut bytes: &[u8],
    ) -> Result<()> {
        let entry = ArchiveEntry {
            path: path.as_bytes(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time {
                sec: i64::try_from(self.time).unwrap_or(i64::MAX),
                nsec: 0,
            },
            xattrs: &[],
        };
        let done = self.tar.append(&entry, &mut bytes);
        Ok(done.doing(|| format!("cannot write /{path}"))?)
    }
}
