//! The first program of the system, and the kind of boot that it leads to.

use super::boot_files::BootFiles;
use super::{kernel_modules, settings, systemd};

/// Paths of an init, as the kernel and the initramfs search them.
const INITS: [&str; 4] = [
    "/sbin/init",
    "/usr/lib/systemd/systemd",
    "/etc/init",
    "/bin/init",
];

/// Adds the boot of the system.
pub(super) fn add(files: &mut BootFiles<'_>) {
    let Some(init) = INITS
        .into_iter()
        .find(|init| files.tree.file(init).is_some())
    else {
        return;
    };
    files.program(init);
    let is_systemd = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"]
        .into_iter()
        .any(|path| {
            files.tree.file(path).is_some() && files.tree.file(path) == files.tree.file(init)
        });
    if is_systemd {
        systemd::add(files);
        return;
    }
    settings::early(files);
    let modules = kernel_modules::first(files);
    files.data("/etc/inittab");
    let table = files.tree.text("/etc/inittab").unwrap_or_default();
    kernel_modules::add(files, &modules);
    for line in table
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        let program = line.splitn(4, ':').nth(3).unwrap_or_default();
        let words: Vec<&str> = program.split_whitespace().collect();
        for word in words.iter().filter(|word| word.starts_with('/')) {
            files.any(word);
        }
    }
    sysvinit(files);
    openrc(files);
    runit(files);
    settings::system(files);
    settings::names(files);
}

/// Adds the scripts that sysvinit starts, in their order.
fn sysvinit(files: &mut BootFiles<'_>) {
    files.directory("/lib/lsb/init-functions.d", &[]);
    for level in ["/etc/rcS.d", "/etc/rc2.d", "/etc/rc3.d", "/etc/rc5.d"] {
        for name in files.tree.names(level) {
            if let Some(service) = name.strip_prefix('S') {
                files.program(&format!("{level}/{name}"));
                let service = service.trim_start_matches(|one: char| one.is_ascii_digit());
                files.data(&format!("/etc/default/{service}"));
            }
        }
    }
}

/// Adds the services of OpenRC's run levels and OpenRC's own parts.
fn openrc(files: &mut BootFiles<'_>) {
    if !files.tree.is_dir("/etc/runlevels") {
        return;
    }
    files.data("/etc/rc.conf");
    for program in ["/sbin/openrc", "/sbin/openrc-run"] {
        files.program(program);
    }
    for directory in ["/lib/rc", "/usr/lib/rc", "/libexec/rc", "/usr/libexec/rc"] {
        for part in ["bin", "sbin", "sh"] {
            let part = format!("{directory}/{part}");
            for name in files.tree.names(&part) {
                files.any(&format!("{part}/{name}"));
            }
        }
    }
    // Its list of dependencies is made of all scripts.
    files.directory("/etc/init.d", &[]);
    for level in ["sysinit", "boot", "default"] {
        let level = format!("/etc/runlevels/{level}");
        for service in files.tree.names(&level) {
            files.data(&format!("/etc/conf.d/{service}"));
            let text = files.tree.text(&format!("{level}/{service}"));
            files.shell(&text.unwrap_or_default(), 0);
        }
    }
}

/// Adds the stages of runit and the services of its default run level.
fn runit(files: &mut BootFiles<'_>) {
    if !files.tree.is_dir("/etc/runit") {
        return;
    }
    for program in [
        "runit",
        "runsvdir",
        "runsv",
        "runsvchdir",
        "sv",
        "chpst",
        "svlogd",
    ] {
        files.program(program);
    }
    for stage in ["/etc/runit/1", "/etc/runit/2", "/etc/rc.conf"] {
        files.any(stage);
    }
    files.directory("/etc/runit/core-services", &[]);
    for name in files.tree.names("/etc/runit/core-services") {
        let text = files.tree.text(&format!("/etc/runit/core-services/{name}"));
        files.shell(&text.unwrap_or_default(), 0);
    }
    for level in [
        "/etc/runit/runsvdir/default",
        "/etc/service",
        "/var/service",
    ] {
        for service in files.tree.names(level) {
            for script in ["run", "log/run", "conf"] {
                files.any(&format!("{level}/{service}/{script}"));
            }
        }
    }
}
