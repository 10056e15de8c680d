//! The boot of a system with systemd.

use super::boot_files::BootFiles;
use super::kernel_modules;
use super::settings;
use super::unit_file::expand;
use super::units::{self, StartedUnit};

/// Programs that systemd starts for units without a file: mounts, and those of its generators.
const PROGRAMS: [&str; 3] = [
    "/usr/bin/mount",
    "/usr/lib/systemd/systemd-remount-fs",
    "/usr/sbin/modprobe",
];
const GENERATORS: [&str; 3] = [
    "/usr/lib/systemd/system-generators",
    "/usr/local/lib/systemd/system-generators",
    "/etc/systemd/system-generators",
];
/// Most files of the directory with a service's own settings.
const OWN_SETTINGS_MAX: usize = 64;

/// Adds the files of the boot in its order.
pub(super) fn add(files: &mut BootFiles<'_>) {
    files.directory("/etc/systemd", &[".conf"]);
    for directory in [
        "/etc/systemd/system.conf.d",
        "/usr/lib/systemd/system.conf.d",
    ] {
        files.directory(directory, &[".conf"]);
    }
    settings::early(files);
    let mut modules = kernel_modules::first(files);
    for directory in GENERATORS {
        for name in files.tree.names(directory) {
            files.program(&format!("{directory}/{name}"));
        }
    }
    let started = units::start(files, &["sysinit.target", "basic.target", "default.target"]);
    modules.extend(started.iter().filter_map(|unit| {
        let stem = unit.name.strip_suffix(".service")?;
        stem.strip_prefix("modprobe@").map(str::to_owned)
    }));
    settings::locale(files);
    kernel_modules::add(files, &modules);
    for program in PROGRAMS {
        files.program(program);
    }
    settings::system(files);
    for unit in &started {
        service(files, unit);
    }
    settings::names(files);
}

/// Adds the programs and settings of a unit.
fn service(files: &mut BootFiles<'_>, unit: &StartedUnit) {
    let stem = unit.name.rsplit_once('.').map_or("", |(stem, _)| stem);
    for setting in &unit.settings {
        let value = expand(&setting.value, &unit.name);
        match setting.key.as_str() {
            "EnvironmentFile" => {
                files.data(value.trim_start_matches('-'));
            }
            "ExecCondition" | "ExecStartPre" | "ExecStart" | "ExecStartPost" => {
                command(files, &value);
            }
            _ => {}
        }
    }
    if unit.name.ends_with(".service") {
        let stem = stem.split('@').next().unwrap_or(stem);
        own_settings(files, stem);
    }
}

/// Adds the program of a command line, and the files that its arguments name.
fn command(files: &mut BootFiles<'_>, line: &str) {
    let line = line.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let mut words = line.split_whitespace();
    let Some(program) = words.next() else {
        return;
    };
    files.program(program);
    let own = program.rsplit('/').next().unwrap_or(program).to_owned();
    own_settings(files, &own);
    if matches!(own.as_str(), "sh" | "bash" | "dash") {
        let (_, script) = line.split_once("c ").unwrap_or_default();
        files.shell(script.trim().trim_matches(['"', '\'']), 0);
    }
    for word in words {
        let word = word.trim_matches(['"', '\'']);
        if word.starts_with('/') && !word.contains("..") {
            files.any(word);
        }
    }
}

/// Adds the files in /etc that carry the name of a service or its program.
fn own_settings(files: &mut BootFiles<'_>, name: &str) {
    if name.is_empty() || matches!(name, "systemd" | "." | "..") || name.contains('/') {
        return;
    }
    let name = name
        .strip_suffix('d')
        .filter(|name| *name == "ssh")
        .unwrap_or(name);
    files.data(&format!("/etc/{name}.conf"));
    files.data(&format!("/etc/default/{name}"));
    for directory in [
        format!("/etc/{name}"),
        format!("/etc/{name}.d"),
        format!("/etc/{name}/conf.d"),
        format!("/usr/lib/{name}/conf.d"),
    ] {
        let names = files.tree.names(&directory);
        for file in names.into_iter().take(OWN_SETTINGS_MAX) {
            let path = format!("{directory}/{file}");
            // A large table is not a setting (the moduli of ssh).
            if files
                .tree
                .file(&path)
                .is_some_and(|ino| files.tree.len(ino) <= 64 << 10)
            {
                files.data(&path);
            }
        }
    }
    if name == "dbus-daemon" || name == "dbus-broker-launch" {
        settings::bus(files);
    }
}
