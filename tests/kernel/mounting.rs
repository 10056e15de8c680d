//! S16: mount options, mount(8) and its helper, systemd.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::Fixture;
use crate::harness::mount::Mount;
use crate::harness::programs::{ends_after, program, run};
use crate::test_bakery::wait_until;

/// A layer file that is not mounted, and the helper of mount(8).
fn unmounted() -> (Fixture, PathBuf) {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), "x").unwrap());
    f.mount.detach();
    let helper = f.bench.dir("sbin").join("mount.layerfs");
    std::os::unix::fs::symlink(program("layerfs"), &helper).unwrap();
    (f, helper)
}

/// The maximum length of one read by the kernel: the chunk length of baked layers, longer for
/// recompressed ones.
#[test]
fn s16_8_reads_of_local_layers_are_as_long_as_their_chunks() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), super::bytes(3 << 20)).unwrap());
    let read_len = || {
        let options = flags("/proc/self/mountinfo", &f.mount.at).unwrap();
        let found = options
            .split([',', ' '])
            .find_map(|option| option.strip_prefix("max_read="));
        found.map(|len| len.parse::<u32>().unwrap())
    };
    assert_eq!(read_len(), Some(256 << 10));
    f.mount.detach();
    let small = f.bench.path("small.layer");
    run(Command::new(program("bakery"))
        .args(["compact", "--recompress", "--output"])
        .args([&small, &f.layer]));
    fs::rename(&small, &f.layer).unwrap();
    f.mount.recover();
    assert_eq!(read_len(), Some(1 << 20));
    assert_eq!(fs::read(f.at("f")).unwrap(), super::bytes(3 << 20));
}

/// The table of a daemon's descriptors is long from the start: growing it stops every opener for ten milliseconds.
#[test]
fn s16_9_a_writable_mount_has_room_for_descriptors() {
    let f = Fixture::new(|_| ());
    let status = fs::read_to_string(format!("/proc/{}/status", f.mount.pid())).unwrap();
    let len = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    assert!(
        len.unwrap().trim().parse::<u32>().unwrap() >= 4096,
        "{status}"
    );
}

/// The flags of the mount on `at`, those of its file system, and its type.
fn flags(table: &str, at: &Path) -> Option<String> {
    let table = fs::read_to_string(table).unwrap();
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4) == at.to_str())?;
    let fields: Vec<&str> = line.split(' ').collect();
    let dash = fields.iter().position(|field| *field == "-")?;
    Some(format!(
        "{} {} {}",
        fields[5],
        fields[dash + 3],
        fields[dash + 1]
    ))
}

const OWN: &str = "/proc/self/mountinfo";

#[test]
fn s16_1_the_flags_of_mount_8_are_the_mounts() {
    let (f, _) = unmounted();
    let at = f.bench.dir("at");
    let lower = format!(
        "lowerdir={},upperdir={},workdir={},",
        f.layer.display(),
        f.upper.display(),
        f.work.display()
    );
    let has = |options: &str| {
        let _mount = Mount::with_options(&at, format!("{lower}{options}"));
        let shown = flags(OWN, &at).unwrap();
        shown
            .split([' ', ','])
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let seen =
        has("nosuid,nodev,noexec,nosymfollow,lazytime,sync,dirsync,nodiratime,noatime,silent");
    for flag in
        "nosuid nodev noexec nosymfollow lazytime sync dirsync nodiratime noatime".split(' ')
    {
        assert!(seen.iter().any(|s| s == flag), "{flag}: {seen:?}");
    }
    let seen = has("users,exec,ro,rw,lazytime,nolazytime,mand,iversion,x-a=b,strictatime");
    for (flag, is) in [
        ("nosuid", true),
        ("nodev", true),
        ("noexec", false),
        ("rw", true),
        ("lazytime", false),
        ("relatime", false),
    ] {
        assert_eq!(seen.iter().any(|s| s == flag), is, "{flag}: {seen:?}");
    }
}

#[test]
fn s16_3_what_nobody_knows_is_refused_or_left_out() {
    let (f, helper) = unmounted();
    let at = f.bench.dir("at");
    let call = |flags: &[&str]| -> Output {
        let mut command = Command::new(&helper);
        command.arg(&f.layer).arg(&at).args(flags);
        command.args(["-o", "ro,frobnicate=1"]).output().unwrap()
    };
    let refused = call(&[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("frobnicate") && said.contains("--help"),
        "{said}"
    );
    let taken = call(&["-s"]);
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(
        taken.status.success() && said.contains("frobnicate"),
        "{said}"
    );
    assert_eq!(fs::read(at.join("f")).unwrap(), b"x");
    run(Command::new(program("layerfs")).arg("umount").arg(&at));
}

#[test]
fn s16_4_the_helper_does_what_mount_8_asks() {
    let (f, helper) = unmounted();
    let at = f.bench.dir("at");
    let call = |flags: &[&str]| -> Output {
        let mut command = Command::new(&helper);
        command.arg(&f.layer).arg(&at).args(flags);
        command.args(["-o", "ro,noexec"]).output().unwrap()
    };
    let unknown = call(&["-sx"]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && said.contains("-x"), "{said}");
    run(Command::new(&helper)
        .arg(&f.layer)
        .arg(&at)
        .args(["-f", "-o", "ro"]));
    let fake = Command::new(&helper)
        .arg(&f.layer)
        .arg(&at)
        .args(["-f", "-o", "rro"])
        .output();
    assert!(!fake.unwrap().status.success(), "-f checks the options");
    assert_eq!(flags(OWN, &at), None, "-f mounted");
    assert!(call(&["-n", "-v", "-t", "layerfs"]).status.success());
    assert!(flags(OWN, &at).unwrap().contains("noexec"));
    run(Command::new(program("layerfs")).arg("umount").arg(&at));

    let mut other = Command::new("unshare");
    let script = "echo ready; read line; umount \"$0\"";
    let mut other = other
        .args(["-m", "--propagation", "private", "sh", "-c", script])
        .arg(&at)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let process = format!("/proc/{}", other.id());
    let mounted = call(&["-N", &format!("{process}/ns/mnt")]);
    let inside = flags(&format!("{process}/mountinfo"), &at);
    let content = fs::read(format!("{process}/root{}/f", at.display()));
    let outside = flags(OWN, &at);
    // A mount keeps its namespace alive: it has to be unmounted there.
    drop(other.stdin.take());
    other.wait().unwrap();
    assert!(
        mounted.status.success(),
        "{}",
        String::from_utf8_lossy(&mounted.stderr)
    );
    assert_eq!(outside, None, "mounted in our namespace");
    assert!(inside.unwrap().contains("noexec"));
    assert_eq!(content.unwrap(), b"x");
}

/// A layer file that is not mounted, an ordinary user's directory, and a client that this user can
/// execute.
fn users() -> (Fixture, PathBuf, PathBuf) {
    let (f, _) = unmounted();
    let (at, program_there) = (f.bench.dir("at"), f.bench.path("layerfs"));
    fs::copy(program("layerfs"), &program_there).unwrap();
    std::os::unix::fs::chown(&at, Some(65534), Some(65534)).unwrap();
    (f, at, program_there)
}

fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(program);
    command
}

#[test]
fn s16_5_an_ordinary_user() {
    let (f, at, program_there) = users();
    let mut mount = as_user(&program_there);
    mount.args(["mount", "-o", "noexec,noatime,sync,dirsync,nosymfollow"]);
    let mounted = run(mount.arg(&f.layer).arg(&at));
    let shown = flags(OWN, &at);
    run(as_user(Path::new("fusermount3")).arg("-u").arg(&at));
    let shown = shown.unwrap();
    for flag in "nosuid nodev noexec noatime sync dirsync".split(' ') {
        assert!(
            shown.split([' ', ',']).any(|s| s == flag),
            "{flag}: {shown}"
        );
    }
    let said = String::from_utf8_lossy(&mounted.stderr).into_owned();
    assert!(
        said.contains("NOSYMFOLLOW") && !said.contains("NOEXEC"),
        "{said}"
    );
}

/// Calls of mount(8) as by systemd (src/core/mount.c) and by fstab, and a remount; in a namespace
/// where mount(8) finds our helper.
const BY_MOUNT_8: &str = r#"
mkdir sbin-upper sbin-work at
for name in mount.layerfs mount.fuse.layerfs; do ln -s "$LAYERFS" sbin-upper/$name; done
mount -t overlay sbin -o "lowerdir=/usr/sbin,upperdir=$PWD/sbin-upper,workdir=$PWD/sbin-work" /usr/sbin
at=$PWD/at
mount -o "nofail,user,suid,x-systemd.requires=a.service,nosymfollow,$OPTIONS" -t layerfs "$LAYER" "$at"
findmnt -no OPTIONS "$at" | tr , ' '
mount -o remount,ro "$at"
findmnt -no OPTIONS "$at" | tr , ' '
umount "$at"
mount "$LAYER" "$at" -t layerfs -s -w -o "unheardof,$OPTIONS"
umount "$at"
echo "$LAYER $at layerfs noauto,nofail,_netdev,lazytime,x-systemd.automount,$OPTIONS 0 0" >fstab
mount -T "$PWD/fstab" "$at"
echo "$(cat "$at/f")"
findmnt -no OPTIONS "$at" | tr , ' '
umount "$at"
"#;

#[test]
fn s16_6_mount_8_fstab_and_a_unit_of_systemd() {
    let (f, _) = unmounted();
    let options = format!(
        "upperdir={},workdir={},wait=30",
        f.upper.display(),
        f.work.display()
    );
    let mut script = Command::new("unshare");
    script.args(["-m", "--propagation", "private", "sh", "-ec", BY_MOUNT_8]);
    script
        .env("LAYERFS", program("layerfs"))
        .env("LAYER", &f.layer)
        .env("OPTIONS", options);
    let said = run(script.current_dir(f.bench.path("")));
    let said = String::from_utf8(said.stdout).unwrap();
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
    let [first, remounted, content, listed] = &lines[..] else {
        panic!("{said}")
    };
    for flag in ["rw", "noexec", "nodev", "nosymfollow"] {
        assert!(first.contains(&flag), "{flag}: {said}");
    }
    assert!(!first.contains(&"nosuid"), "{said}");
    assert!(
        remounted.contains(&"ro") && remounted.contains(&"nosymfollow"),
        "{said}"
    );
    assert_eq!(content, &["x"]);
    assert!(
        listed.contains(&"lazytime") && listed.contains(&"rw"),
        "{said}"
    );

    // The unit of docs/SEMANTICS.md, by systemd's own eyes.
    let semantics = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SEMANTICS.md");
    let text = fs::read_to_string(semantics).unwrap();
    let unit = text
        .split("```ini\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let path = f.bench.path("srv-office.mount");
    fs::write(&path, unit).unwrap();
    match Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output()
    {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("systemd-analyze is not here: the unit of S16.6 was not checked");
        }
        checked => {
            let checked = checked.unwrap();
            let said = String::from_utf8_lossy(&checked.stderr).into_owned();
            assert!(
                checked.status.success() && !said.contains("srv-office"),
                "{said}"
            );
        }
    }
}

/// At switch-root systemd 257 and later unmount the initramfs's /proc, which the daemon uses.
const WITHOUT_PROC: &str = r#"
mkdir at
"$LAYERFS" mount -o "$OPTIONS" "$LAYER" "$PWD/at"
while umount -l /proc 2>/dev/null; do :; done
test ! -e /proc/self
setfattr -n trusted.a -v 1 at/f
touch at/new
setfattr -n trusted.b -v 2 at/new
chmod 600 at/new
getfattr --only-values -n trusted.a at/f
getfattr --only-values -n trusted.b at/new
mount -t proc proc /proc
umount at
"#;

#[test]
fn s16_11_the_daemon_outlives_its_proc() {
    let (f, _) = unmounted();
    let options = format!(
        "upperdir={},workdir={}",
        f.upper.display(),
        f.work.display()
    );
    let mut script = Command::new("unshare");
    script.args(["-m", "--propagation", "private", "sh", "-ec", WITHOUT_PROC]);
    script
        .env("LAYERFS", program("layerfs"))
        .env("LAYER", &f.layer)
        .env("OPTIONS", options);
    let said = run(script.current_dir(f.bench.path("")));
    assert_eq!(said.stdout, b"12");
}

#[test]
fn s16_7_a_signal_unmounts_and_ends() {
    let f = Fixture::new(|lower| fs::write(lower.join("f"), "x").unwrap());
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        assert!(ends_after(f.mount.pid(), signal, 10), "{signal:?}");
        assert_eq!(flags(OWN, &f.mount.at), None);
        f.mount.recover();
    }
    // The first signal does not disturb a user of the mount.
    let mut used = fs::File::open(f.at("f")).unwrap();
    let pid = f.mount.pid();
    let daemon = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(daemon, Signal::TERM).unwrap();
    wait_until(Duration::from_secs(10), || {
        flags(OWN, &f.mount.at).is_none()
    });
    let mut content = String::new();
    used.read_to_string(&mut content).unwrap();
    assert_eq!(content, "x");
    // Nor does the second unmount a new mount there.
    let nothing = rustix::mount::MountFlags::empty();
    rustix::mount::mount("other", &f.mount.at, "tmpfs", nothing, None).unwrap();
    assert!(ends_after(pid, Signal::TERM, 10), "the second");
    let other = flags(OWN, &f.mount.at).unwrap();
    assert!(other.ends_with("tmpfs"), "{other}");
}

#[test]
fn s16_7_an_ordinary_users_as_well() {
    let (f, at, program_there) = users();
    run(as_user(&program_there).arg("mount").arg(&f.layer).arg(&at));
    let status = run(as_user(&program_there).args(["status", "--json"]).arg(&at));
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let pid = status["pid"].as_u64().unwrap().try_into().unwrap();
    assert!(ends_after(pid, Signal::TERM, 10));
    assert_eq!(flags(OWN, &at), None);
}

/// Of the daemon's heap: KiB that are resident, and KiB of these that are locked.
fn heap(pid: u32) -> (u64, u64) {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut heap = (0, 0);
    for part in maps.split("[heap]\n").skip(1) {
        let value = |name: &str| {
            let line = part.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim()
        };
        let kib: u64 = value("Rss:").trim_end_matches(" kB").parse().unwrap();
        heap.0 += kib;
        if value("VmFlags:").split(' ').any(|flag| flag == "lo") {
            heap.1 += kib;
        }
    }
    heap
}

#[test]
fn a_roots_heap_is_given_back_at_rest_and_locked_again() {
    let f = Fixture::with(|_| {}, "root-duty");
    let pid = f.mount.pid();
    for i in 0..8000 {
        fs::write(f.at(&format!("file-{i:0200}")), "changed").unwrap();
    }
    let (most, locked) = heap(pid);
    assert!(locked + 64 >= most, "{locked} of {most} KiB are locked");
    for i in 0..8000 {
        fs::remove_file(f.at(&format!("file-{i:0200}"))).unwrap();
    }
    wait_until(Duration::from_secs(30), || {
        let (left, locked) = heap(pid);
        left + 500 < most && locked > 0 && locked + 64 >= left
    });
}
