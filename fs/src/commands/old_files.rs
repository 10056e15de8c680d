//! The programs that use files which have no name any more (those of the revision before a switch,
//! and removed ones), or which will have none after a switch.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context as _;

/// The kernel's mark of a path that does not lead to the file any more.
const GONE: &str = " (deleted)";

/// The beginning of the name of a user's systemd as a unit.
pub(super) const USER_MANAGER: &str = "user@";

/// A program and the files that it uses.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct OldFiles {
    /// Its process.
    pub(super) pid: u32,
    /// Its name.
    pub(super) name: String,
    /// Its unit of the system's systemd: of a program in a container, that of the container; of a user's
    /// service, `user@UID.service`.
    pub(super) unit: Option<String>,
    /// Its unit of a user's systemd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_unit: Option<String>,
    /// The paths that the files had.
    pub(super) paths: Vec<String>,
}

/// The files in question, on one file system.
struct Wanted {
    device: u64,
    /// The device as a list of mappings shows it.
    number: String,
    /// Their numbers, beside all that have no name any more.
    objects: HashSet<u64>,
}

/// Finds the programs that use files without a name of the mount at `root`.
pub(super) fn find(root: &OwnedFd) -> anyhow::Result<Vec<OldFiles>> {
    Wanted::new(root, &[])?.users()
}

/// Finds the programs that would use files without a name if these objects of the mount at `root` had
/// none: those that do already, too.
pub(super) fn users_of(root: &OwnedFd, objects: &[u64]) -> anyhow::Result<Vec<OldFiles>> {
    Wanted::new(root, objects)?.users()
}

impl Wanted {
    fn new(root: &OwnedFd, objects: &[u64]) -> anyhow::Result<Wanted> {
        let device = rustix::fs::fstat(root)?.st_dev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Ok(Wanted {
            device,
            number: format!("{major:02x}:{minor:02x}"),
            objects: objects.iter().copied().collect(),
        })
    }

    fn users(&self) -> anyhow::Result<Vec<OldFiles>> {
        let mut found = Vec::new();
        let processes = std::fs::read_dir("/proc").context("/proc")?;
        for process in processes.flatten() {
            let pid = process.file_name().to_string_lossy().parse();
            let Ok(pid) = pid else { continue };
            let paths = self.used_by(&process.path());
            if !paths.is_empty() {
                let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                let groups = std::fs::read_to_string(process.path().join("cgroup"));
                let (unit, user_unit) = units_of(&groups.unwrap_or_default());
                found.push(OldFiles {
                    pid,
                    name: name.trim_end().to_owned(),
                    unit,
                    user_unit,
                    paths: paths.into_iter().collect(),
                });
            }
        }
        found.sort_by_key(|program| program.pid);
        Ok(found)
    }

    /// A process that has ended, or is another user's, has none.
    fn used_by(&self, process: &Path) -> BTreeSet<String> {
        let maps = std::fs::read_to_string(process.join("maps")).unwrap_or_default();
        let mut paths = self.mapped(&maps);
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
            let Ok(stat) = rustix::fs::stat(&link) else {
                continue;
            };
            if stat.st_dev == self.device
                && let Some(path) = self.old(&target, stat.st_ino)
            {
                paths.insert(path.to_owned());
            }
        }
        paths
    }

    /// The wanted files in a process's list of mappings.
    fn mapped(&self, maps: &str) -> BTreeSet<String> {
        let lines = maps.lines().filter_map(|line| {
            let mut fields = line.splitn(6, ' ');
            let device = fields.nth(3)?;
            let object = fields.next()?.parse().ok()?;
            let path = fields.next()?.trim_start();
            (device == self.number).then(|| self.old(path, object))?
        });
        lines.map(str::to_owned).collect()
    }

    /// The path that a file had, if it is wanted.
    fn old<'p>(&self, path: &'p str, object: u64) -> Option<&'p str> {
        let has_name = || self.objects.contains(&object).then_some(path);
        path.strip_suffix(GONE).or_else(has_name)
    }
}

/// The unit of the system's systemd and that of a user's in a process's list of control groups:
/// `0::/system.slice/ssh.service`. The system's is the first: those below are of another systemd, and
/// may have the name of a unit of the system.
fn units_of(groups: &str) -> (Option<String>, Option<String>) {
    let of_systemd = |line: &str| {
        let unified = line.strip_prefix("0::");
        let path = unified.or_else(|| Some(line.split_once(":name=systemd:")?.1))?;
        (path.len() > 1).then(|| path.to_owned())
    };
    let path = groups.lines().find_map(of_systemd).unwrap_or_default();
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    let mut units = path.split('/').filter(is_unit);
    let unit = units.next();
    let is_user = unit.is_some_and(|unit| unit.starts_with(USER_MANAGER));
    let user_unit = units.next().filter(|_| is_user);
    (unit.map(str::to_owned), user_unit.map(str::to_owned))
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
        let mut wanted = Wanted {
            device: 0,
            number: String::from("00:2a"),
            objects: HashSet::new(),
        };
        let found: Vec<String> = wanted.mapped(maps).into_iter().collect();
        assert_eq!(found, ["/usr/lib/libx.so.1"]);
        wanted.objects = HashSet::from([78, 79]);
        let found: Vec<String> = wanted.mapped(maps).into_iter().collect();
        assert_eq!(found, ["/usr/lib/libx.so.1", "/usr/lib/liby.so"]);
    }

    #[test]
    fn the_unit_is_that_of_the_systems_systemd() {
        for (groups, unit, user_unit) in [
            ("0::/system.slice/ssh.service\n", "ssh.service", ""),
            (
                "0::/user.slice/user-0.slice/session-1.scope/a\n",
                "session-1.scope",
                "",
            ),
            (
                "0::/user.slice/user-7.slice/user@7.service/app.slice/ssh.service\n",
                "user@7.service",
                "ssh.service",
            ),
            (
                "0::/user.slice/user-7.slice/user@7.service/init.scope\n",
                "user@7.service",
                "init.scope",
            ),
            (
                "0::/machine.slice/systemd-nspawn@a.service/payload/system.slice/ssh.service\n",
                "systemd-nspawn@a.service",
                "",
            ),
            (
                "2:cpu:/\n1:name=systemd:/system.slice/ssh.service\n0::/\n",
                "ssh.service",
                "",
            ),
            (
                "1:name=systemd:/\n0::/system.slice/ssh.service\n",
                "ssh.service",
                "",
            ),
            ("0::/\n", "", ""),
            ("", "", ""),
        ] {
            let found = units_of(groups);
            let found = (found.0.unwrap_or_default(), found.1.unwrap_or_default());
            assert_eq!(found, (unit.to_owned(), user_unit.to_owned()), "{groups}");
        }
    }
}
