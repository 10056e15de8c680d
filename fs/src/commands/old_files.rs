//! The programs that use files which have no name any more: those of the revision before a switch,
//! and removed ones.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context as _;

/// The kernel's mark of a path that does not lead to the file any more.
const GONE: &str = " (deleted)";

/// A program and the files that it uses.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct OldFiles {
    /// Its process.
    pub(super) pid: u32,
    /// Its name.
    pub(super) name: String,
    /// Its systemd unit.
    pub(super) unit: Option<String>,
    /// The paths that the files had.
    pub(super) paths: Vec<String>,
}

/// Finds the programs that use files without a name of the mount at `root`.
pub(super) fn find(root: &OwnedFd) -> anyhow::Result<Vec<OldFiles>> {
    let device = rustix::fs::fstat(root)?.st_dev;
    let number = format!(
        "{:02x}:{:02x}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    );
    let mut found = Vec::new();
    let processes = std::fs::read_dir("/proc").context("/proc")?;
    for process in processes.flatten() {
        let pid = process.file_name().to_string_lossy().parse();
        let Ok(pid) = pid else { continue };
        let paths = old_files(&process.path(), device, &number);
        if !paths.is_empty() {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let groups = std::fs::read_to_string(process.path().join("cgroup"));
            found.push(OldFiles {
                pid,
                name: name.trim_end().to_owned(),
                unit: unit_of(&groups.unwrap_or_default()),
                paths: paths.into_iter().collect(),
            });
        }
    }
    found.sort_by_key(|program| program.pid);
    Ok(found)
}

/// A process that has ended, or is another user's, has none.
fn old_files(process: &Path, device: u64, number: &str) -> BTreeSet<String> {
    let maps = std::fs::read_to_string(process.join("maps")).unwrap_or_default();
    let mut paths = mapped(&maps, number);
    let mut links = vec![
        process.join("exe"),
        process.join("cwd"),
        process.join("root"),
    ];
    let open = std::fs::read_dir(process.join("fd"));
    links.extend(
        open.into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    for link in links {
        let Ok(target) = std::fs::read_link(&link) else {
            continue;
        };
        let target = target.to_string_lossy();
        let Some(path) = target.strip_suffix(GONE) else {
            continue;
        };
        if rustix::fs::stat(&link).is_ok_and(|stat| stat.st_dev == device) {
            paths.insert(path.to_owned());
        }
    }
    paths
}

/// The files without a name of the file system `number` in a process's list of mappings.
fn mapped(maps: &str, number: &str) -> BTreeSet<String> {
    let lines = maps.lines().filter_map(|line| {
        let mut fields = line.splitn(6, ' ');
        let device = fields.nth(3)?;
        let path = fields.nth(1)?.trim_start();
        (device == number).then(|| path.strip_suffix(GONE))?
    });
    lines.map(str::to_owned).collect()
}

/// The unit in a process's list of control groups: `0::/system.slice/ssh.service`.
fn unit_of(groups: &str) -> Option<String> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut parts = path.rsplit('/');
    let unit = parts.find(|part| part.ends_with(".service") || part.ends_with(".scope"))?;
    Some(unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_and_units_are_read() {
        let maps = "7f00-7f01 r-xp 00000000 00:2a 77    /usr/lib/libx.so.1 (deleted)\n\
                    7f01-7f02 r--p 00001000 00:2a 77    /usr/lib/libx.so.1 (deleted)\n\
                    7f02-7f03 r--p 00000000 00:2a 78    /usr/lib/liby.so\n\
                    7f03-7f04 rw-p 00000000 08:01 79    /x (deleted)\n\
                    7f04-7f05 rw-p 00000000 00:00 0 \n";
        let found: Vec<String> = mapped(maps, "00:2a").into_iter().collect();
        assert_eq!(found, ["/usr/lib/libx.so.1"]);
        let unit = unit_of("0::/system.slice/ssh.service\n");
        assert_eq!(unit.as_deref(), Some("ssh.service"));
        let nested = unit_of("0::/user.slice/user-0.slice/session-1.scope/a\n");
        assert_eq!(nested.as_deref(), Some("session-1.scope"));
        assert_eq!(unit_of("0::/\n"), None);
    }
}
