//! `layerfs switch --restart-units`: the services that use old files, with real control groups and a
//! stand-in for systemctl.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;

use super::{Scene, files, program};
use crate::remote::site::Site;
use crate::scratch::Scratch;

/// The control groups of this machine, with one for each service of a test.
struct Groups {
    at: PathBuf,
    made: Vec<PathBuf>,
}

impl Groups {
    /// `None`: this machine gives none to its root user, as a container.
    fn mount(at: PathBuf) -> Option<Groups> {
        fs::create_dir(&at).unwrap();
        if let Err(errno) = mount("none", &at, "cgroup2", MountFlags::empty(), None) {
            println!("needs control groups: {errno}");
            return None;
        }
        Some(Groups {
            at,
            made: Vec::new(),
        })
    }

    /// Puts a process into the control group of a unit.
    fn place(&mut self, process: &Child, slice: &str, unit: &str) {
        let mut at = self.at.clone();
        for part in [slice.split('/').collect(), vec![unit]].concat() {
            at.push(part);
            if !at.is_dir() {
                fs::create_dir(&at).unwrap();
                self.made.push(at.clone());
            }
        }
        fs::write(at.join("cgroup.procs"), process.id().to_string()).unwrap();
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for at in self.made.iter().rev() {
            let _ = fs::remove_dir(at);
        }
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

/// Programs that hold a file of the mount open.
#[derive(Default)]
struct Holders(Vec<Child>);

impl Holders {
    fn start(&mut self, file: &Path) -> &Child {
        let open = fs::File::open(file).unwrap();
        let child = Command::new("sleep").arg("1000").stdin(open).spawn();
        self.0.push(child.unwrap());
        self.0.last().unwrap()
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A directory with `systemctl`: it ends the process in `UNIT.pid`, and knows no other units.
fn systemctl(place: &Path) -> PathBuf {
    let programs = place.join("programs");
    fs::create_dir(&programs).unwrap();
    let text = format!(
        "#!/bin/sh
echo \"$*\" >> {place}/asked
test -e {place}/$3.pid || {{ echo \"Unit $3 not found.\" >&2; exit 5; }}
pid=$(cat {place}/$3.pid)
kill -9 $pid
# As systemctl, which waits for the end.
for attempt in $(seq 3000); do test -e /proc/$pid/fd/0 || break; sleep 0.02; done
",
        place = place.display()
    );
    let at = programs.join("systemctl");
    fs::write(&at, text).unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
    programs
}

fn units_of(report: &Value) -> Vec<&str> {
    let programs = report["programs"].as_array().unwrap();
    let units = programs.iter().filter_map(|one| one["unit"].as_str());
    units.collect()
}

/// "`--restart-units` restarts these services, except those that end sessions, those of users, and
/// those in containers."
#[test]
fn services_with_old_files_are_restarted() {
    let mut site = Site::with(files(&[("a", b"old"), ("same", &vec![7; 300_000])]));
    site.publish_files(files(&[("a", b"new"), ("same", &vec![7; 300_000])]));
    let scene = Scene::new(site);
    scene.to(1);
    let place = Scratch::new();
    let Some(mut groups) = Groups::mount(place.path().join("groups")) else {
        return;
    };
    // Control groups are those of the whole machine.
    let slice = format!("layerfs-test-{}.slice", std::process::id());
    let user = format!("{slice}/user@7.service/app.slice");
    let container = format!("{slice}/systemd-nspawn@a.service/payload");
    let mut holders = Holders::default();
    for (file, below, unit) in [
        ("a", &slice, "alpha.service"),
        ("a", &slice, "unknown.service"),
        ("a", &slice, "dbus.service"),
        ("a", &slice, "session-1.scope"),
        ("a", &user, "of-user.service"),
        ("a", &container, "contained.service"),
        ("same", &slice, "unchanged.service"),
    ] {
        let child = holders.start(&scene.at(file));
        groups.place(child, below, unit);
        if unit == "alpha.service" {
            let at = place.path().join(format!("{unit}.pid"));
            fs::write(at, child.id().to_string()).unwrap();
        }
    }
    let programs = systemctl(place.path());
    let switch = |path: &str, arguments: &[&str]| {
        Command::new(program("layerfs"))
            .args(["switch", "--mount"])
            .arg(&scene.client.at)
            .args(arguments)
            .env("PATH", path)
            .output()
            .unwrap()
    };
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", programs.display());
    let output = switch(&path, &["@2", "--restart-units", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["outcome"], "done", "{report}");
    assert_eq!(report["restarted"], serde_json::json!(["alpha.service"]));
    let failed = report["not_restarted"].as_array().unwrap();
    let failed = failed
        .iter()
        .map(|one| (one["unit"].as_str(), one["error"].as_str()));
    let failed: Vec<_> = failed.collect();
    assert!(
        failed.contains(&(
            Some("unknown.service"),
            Some("Unit unknown.service not found.")
        )),
        "{failed:?}"
    );
    let asked = fs::read_to_string(place.path().join("asked")).unwrap();
    let asked: Vec<&str> = asked.lines().collect();
    // The service in which a container runs is one of the system's.
    assert_eq!(
        asked,
        [
            "try-restart -- alpha.service",
            "try-restart -- systemd-nspawn@a.service",
            "try-restart -- unknown.service",
        ]
    );
    // As it is after the restarts.
    let left = units_of(&report);
    for (unit, is_left) in [
        ("alpha.service", false),
        ("unknown.service", true),
        ("dbus.service", true),
        ("session-1.scope", true),
        ("user@7.service", true),
        ("unchanged.service", false),
    ] {
        assert_eq!(left.contains(&unit), is_left, "{unit} in {left:?}");
    }
    // A machine without systemd: the mount has switched all the same, and the command says both.
    let nowhere = place.path().join("nowhere");
    let output = switch(nowhere.to_str().unwrap(), &["@1", "--restart-units"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("kiosk/main@2 to kiosk/main@1: "), "{said}");
    assert!(
        said.contains("not restarted: unknown.service: systemctl: "),
        "{said}"
    );
    assert_eq!(fs::read(scene.at("a")).unwrap(), b"old");
}
