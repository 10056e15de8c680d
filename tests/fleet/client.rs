//! The hellos of real mounts and of `layerfs hello`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::programs::program;
use crate::site::Site;
use crate::test_bakery::{run, text, wait_until};

/// A real mount of a system of the site; dropping it unmounts.
pub(crate) struct Mount {
    pub(crate) at: PathBuf,
}

impl Mount {
    pub(crate) fn new(site: &Site, options: &str) -> Mount {
        let at = site.bakery.path("mnt");
        std::fs::create_dir_all(&at).unwrap();
        run(&mut Mount::command(site, options));
        Mount { at }
    }

    fn command(site: &Site, options: &str) -> Command {
        for directory in ["mnt", "up", "wk"] {
            std::fs::create_dir_all(site.bakery.path(directory)).unwrap();
        }
        let place = |name: &str| site.bakery.path(name).display().to_string();
        let keys = format!("{}.keys/allowed_signers", site.bakery.store().display());
        let mut command = Command::new(program("layerfs"));
        command
            .args(["mount", "-o"])
            .arg(format!(
                "upperdir={},workdir={},keys={keys}{options}",
                place("up"),
                place("wk")
            ))
            .arg(format!("http://{}/kiosk", site.address))
            .arg(place("mnt"));
        command
    }

    pub(crate) fn hello(&self, more: &[&str]) -> std::process::Output {
        let mut command = Command::new(program("layerfs"));
        command.arg("hello").args(more).arg(&self.at);
        run(&mut command)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new(program("layerfs"))
            .args(["umount", "--lazy"])
            .arg(&self.at)
            .output();
    }
}

/// Waits for the first machine of the site.
pub(crate) fn only(site: &Site) -> Value {
    let mut found = Value::Null;
    wait_until(Duration::from_secs(30), || {
        let listed = site.machine(&["list"]);
        found = listed[0].clone();
        !found.is_null()
    });
    found
}

/// F3.4, F4.1 to F4.3: a mount sends a hello, `layerfs hello` reports the health, and a failed
/// check makes the machine degraded.
#[test]
fn a_real_mount_says_hello_and_how_it_is() {
    let site = Site::new();
    let mount = Mount::new(&site, "");
    let machine = only(&site);
    assert_eq!(machine["boot"]["step"], "mounted");
    assert_eq!(machine["boot"]["revision"], "kiosk/main@1");
    assert_eq!(
        machine["boot"]["hello"]["version"],
        env!("CARGO_PKG_VERSION")
    );

    let checks = site.bakery.path("health.d");
    std::fs::create_dir_all(&checks).unwrap();
    std::fs::copy("/bin/false", checks.join("10-printer")).unwrap();
    mount.hello(&["--checks", checks.to_str().unwrap()]);
    let machine = only(&site);
    assert_eq!(machine["boot"]["step"], "target");
    assert_eq!(machine["state"], "degraded");
    let hello = &machine["boot"]["hello"];
    assert_eq!(hello["health"]["checks"], serde_json::json!(["10-printer"]));
    assert!(hello["bytes"].as_u64().unwrap() > 0);
    assert!(hello["upper"]["size"].as_u64().unwrap() > 0);
    assert!(
        site.words(&["show", machine["id"].as_str().unwrap()])
            .contains("10-printer")
    );

    let said = mount.hello(&["--print"]);
    let printed: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(printed["boot"], hello["boot"]);
    assert_eq!(site.machine(&["list"]).as_array().unwrap().len(), 1);
}

/// F3.4: a switch sends a hello of the revision that it shows, and `bakery log` counts the machine
/// there.
#[test]
fn a_switch_says_hello_of_its_revision() {
    let site = Site::new();
    let mount = Mount::new(&site, "");
    assert_eq!(only(&site)["boot"]["revision"], "kiosk/main@1");
    run(site
        .bakery
        .command()
        .args(["set", "kiosk", "--cmdline", "quiet other"]));
    run(Command::new(program("layerfs"))
        .args(["switch", "--mount"])
        .arg(&mount.at));
    wait_until(Duration::from_secs(60), || {
        only(&site)["boot"]["revision"] == "kiosk/main@2"
    });
    let said = run(site.bakery.command().args(["--json", "log", "kiosk"]));
    let log: Value = serde_json::from_slice(&said.stdout).unwrap();
    let of = |number: u64| {
        let all = log.as_array().unwrap();
        let found = all.iter().find(|line| line["revision"] == number);
        found.unwrap()["machines"].clone()
    };
    assert_eq!((of(2), of(1)), (Value::from(1), Value::Null), "{log}");
}

/// F3.4: a failed mount reports the reason.
#[test]
fn a_mount_that_fails_says_why() {
    let site = Site::new();
    let keys = site.bakery.path("other");
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&keys));
    let public = std::fs::read_to_string(site.bakery.path("other.pub")).unwrap();
    let allowed = site.bakery.path("other.allowed");
    std::fs::write(&allowed, format!("* {public}")).unwrap();
    let failed = Mount::command(&site, &format!(",keys={}", allowed.display()))
        .output()
        .unwrap();
    assert!(!failed.status.success());
    let machine = only(&site);
    assert_eq!(machine["boot"]["step"], "initramfs");
    let why = machine["boot"]["why"].as_str().unwrap();
    assert!(why.contains("kiosk"), "{why}");
    let said = text(&failed.stderr);
    assert!(said.contains(&why[..why.len().min(60)]), "{why}\n{said}");
}

/// F3.6: with report=no the machine sends no hello; the command succeeds.
#[test]
fn a_machine_that_shall_not_report_says_nothing() {
    let site = Site::new();
    let mount = Mount::new(&site, ",report=no");
    let said = mount.hello(&[]);
    assert!(text(&said.stderr).contains("layerfs.report=no"));
    assert!(site.machine(&["list"]).as_array().unwrap().is_empty());
}

/// F1.4: a server without a fleet causes no failure of the client.
#[test]
fn a_server_without_a_fleet_is_no_failure() {
    let site = Site::with(&[], &[]);
    let mount = Mount::new(&site, "");
    mount.hello(&[]);
}
