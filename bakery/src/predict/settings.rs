//! The small files that nearly every boot reads.

use super::boot_files::BootFiles;
use super::elf_pages::Usage;
use super::hwdb;

/// Files that systemd reads before it starts a unit.
const EARLY: [&str; 9] = [
    "/etc/os-release",
    "/etc/hostname",
    "/etc/machine-id",
    "/etc/locale.conf",
    "/etc/default/locale",
    "/etc/vconsole.conf",
    "/etc/selinux/config",
    "/etc/fstab",
    "/etc/crypttab",
];
const SETTINGS: [&str; 21] = [
    "/etc/modules",
    "/etc/udev/udev.conf",
    "/etc/sysctl.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/environment",
    "/etc/login.defs",
    "/etc/issue",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/openssl.cnf",
    "/etc/libaudit.conf",
    "/etc/ld.so.conf",
    "/etc/localtime",
    "/usr/share/zoneinfo/Etc/UTC",
];
/// Directories with settings of systemd's own services, and the endings of their names.
const DIRECTORIES: [(&str, &str); 20] = [
    ("/usr/lib/modules-load.d", ".conf"),
    ("/etc/modules-load.d", ".conf"),
    ("/usr/lib/sysctl.d", ".conf"),
    ("/etc/sysctl.d", ".conf"),
    ("/usr/lib/sysusers.d", ".conf"),
    ("/etc/sysusers.d", ".conf"),
    ("/usr/lib/tmpfiles.d", ".conf"),
    ("/etc/tmpfiles.d", ".conf"),
    ("/usr/lib/binfmt.d", ".conf"),
    ("/etc/binfmt.d", ".conf"),
    ("/usr/lib/udev/rules.d", ".rules"),
    ("/etc/udev/rules.d", ".rules"),
    ("/usr/lib/systemd/network", ".link"),
    ("/etc/systemd/network", ""),
    ("/usr/lib/systemd/journald.conf.d", ".conf"),
    ("/etc/systemd/journald.conf.d", ".conf"),
    ("/usr/lib/systemd/logind.conf.d", ".conf"),
    ("/usr/lib/systemd/resolved.conf.d", ".conf"),
    ("/usr/lib/systemd/timesyncd.conf.d", ".conf"),
    ("/usr/lib/systemd/networkd.conf.d", ".conf"),
];

/// Adds what systemd reads first.
pub(super) fn early(files: &mut BootFiles<'_>) {
    for path in EARLY {
        files.data(path);
    }
}

/// Adds the locale that programs start with.
pub(super) fn locale(files: &mut BootFiles<'_>) {
    for directory in ["/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8"] {
        files.directory(directory, &[]);
        files.directory(&format!("{directory}/LC_MESSAGES"), &[]);
    }
    for directory in ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"] {
        files.data(&format!("{directory}/gconv/gconv-modules.cache"));
    }
    files.data("/usr/lib/locale/locale-archive");
}

/// Adds the settings of systemd's services and of the C library.
pub(super) fn system(files: &mut BootFiles<'_>) {
    for path in SETTINGS {
        files.data(path);
    }
    for (directory, ending) in DIRECTORIES {
        files.directory(directory, &[ending]);
    }
    hwdb::add(files);
}

/// Adds the settings of the system bus.
pub(super) fn bus(files: &mut BootFiles<'_>) {
    files.data("/usr/share/dbus-1/system.conf");
    for directory in [
        "/usr/share/dbus-1/system.d",
        "/etc/dbus-1/system.d",
        "/usr/share/dbus-1/system-services",
    ] {
        files.directory(directory, &[".conf", ".service"]);
    }
}

/// Adds the modules of the name service that `nsswitch.conf` names for users and groups.
pub(super) fn names(files: &mut BootFiles<'_>) {
    let text = files.tree.text("/etc/nsswitch.conf").unwrap_or_default();
    let mut modules = Vec::new();
    for line in text.lines() {
        let Some((database, words)) = line.split_once(':') else {
            continue;
        };
        if matches!(database.trim(), "passwd" | "group" | "shadow") {
            let words = words.split_whitespace();
            modules
                .extend(words.filter(|word| word.bytes().all(|byte| byte.is_ascii_alphanumeric())));
        }
    }
    modules.sort_unstable();
    modules.dedup();
    for module in modules.into_iter().take(16) {
        files.named_library(&format!("libnss_{module}.so.2"), Usage::Called);
    }
}
