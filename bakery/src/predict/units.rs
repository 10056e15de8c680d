//! The systemd units of a boot: those that its default target starts, and those that systemd loads
//! because others name them.

use std::collections::{HashSet, VecDeque};

use super::boot_files::BootFiles;
use super::unit_file::{UnitSetting, expand, is_unit, parse, template};
use crate::limits::PREDICT_UNITS_MAX;

/// Directories of units, the first one wins.
const DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Units that systemd loads for itself.
const OWN: [&str; 8] = [
    "shutdown.target",
    "emergency.target",
    "rescue.target",
    "umount.target",
    "final.target",
    "dbus.service",
    "dbus.socket",
    "init.scope",
];

/// A unit that is started.
#[derive(Debug)]
pub(super) struct StartedUnit {
    pub(super) name: String,
    pub(super) settings: Vec<UnitSetting>,
}

/// Loads the units of `roots` in this order, and adds their files. Returns those that are started,
/// in the order of the search.
pub(super) fn start(files: &mut BootFiles<'_>, roots: &[&str]) -> Vec<StartedUnit> {
    let mut graph = UnitGraph {
        files,
        loaded: HashSet::new(),
        begun: HashSet::new(),
        started: Vec::new(),
    };
    for root in roots {
        graph.walk(root);
    }
    for unit in OWN {
        graph.load(unit);
    }
    graph.started
}

struct UnitGraph<'g, 't> {
    files: &'g mut BootFiles<'t>,
    /// Names whose files were added.
    loaded: HashSet<String>,
    begun: HashSet<String>,
    started: Vec<StartedUnit>,
}

impl UnitGraph<'_, '_> {
    /// Starts `root` and all that it pulls in; loads all that these name, and so on.
    fn walk(&mut self, root: &str) {
        let mut queue = VecDeque::from([root.to_owned()]);
        let mut named = VecDeque::new();
        while let Some(unit) = queue.pop_front() {
            if self.begun.len() >= PREDICT_UNITS_MAX || !self.begun.insert(unit.clone()) {
                continue;
            }
            let (settings, wanted) = self.load(&unit);
            named.extend(others(&unit, &settings));
            if !holds(self.files, &settings) {
                continue;
            }
            queue.extend(wanted);
            queue.extend(pulled(&unit, &settings));
            self.started.push(StartedUnit {
                name: unit,
                settings,
            });
        }
        while let Some(unit) = named.pop_front() {
            if self.loaded.len() < PREDICT_UNITS_MAX && !self.loaded.contains(&unit) {
                let (settings, wanted) = self.load(&unit);
                named.extend(wanted);
                named.extend(others(&unit, &settings));
            }
        }
    }

    /// Adds the files of a unit; returns its assignments, and the names in its `.wants` and
    /// `.requires`.
    fn load(&mut self, unit: &str) -> (Vec<UnitSetting>, Vec<String>) {
        if self.loaded.len() >= PREDICT_UNITS_MAX {
            return (Vec::new(), Vec::new());
        }
        self.loaded.insert(unit.to_owned());
        let mut names = vec![unit.to_owned()];
        names.extend(template(unit));
        let mut settings = Vec::new();
        let places = names
            .iter()
            .flat_map(|name| DIRECTORIES.map(|directory| format!("{directory}/{name}")));
        for place in places {
            let target = self.files.tree.link(&place);
            if target.as_deref() == Some("/dev/null") {
                return (Vec::new(), Vec::new());
            }
            if self.files.data(&place) {
                let text = self.files.tree.text(&place).unwrap_or_default();
                settings = parse(&text);
                // A link to another name is an alias of that unit.
                let other = target
                    .as_deref()
                    .and_then(|path| path.rsplit('/').next())
                    .filter(|other| is_unit(other) && *other != unit);
                names.extend(other.map(str::to_owned));
                break;
            }
        }
        let mut wanted = Vec::new();
        for name in &names {
            for directory in DIRECTORIES {
                for file in self.files.tree.names(&format!("{directory}/{name}.d")) {
                    let path = format!("{directory}/{name}.d/{file}");
                    if file.ends_with(".conf") && self.files.data(&path) {
                        settings.extend(parse(&self.files.tree.text(&path).unwrap_or_default()));
                    }
                }
                for kind in ["wants", "requires", "upholds"] {
                    let names = self.files.tree.names(&format!("{directory}/{name}.{kind}"));
                    wanted.extend(names.into_iter().filter(|name| is_unit(name)));
                }
            }
        }
        (settings, wanted)
    }
}

/// The units that a unit pulls in when it starts.
fn pulled(unit: &str, settings: &[UnitSetting]) -> Vec<String> {
    let pulls = settings.iter().filter(|setting| {
        matches!(
            setting.key.as_str(),
            "Wants" | "Requires" | "BindsTo" | "Upholds"
        )
    });
    let mut found: Vec<String> = pulls.flat_map(|setting| units_in(unit, setting)).collect();
    // Something looks into an automatic mount point during the boot: binfmt_misc.
    if let Some(stem) = unit.strip_suffix(".automount") {
        found.push(format!("{stem}.mount"));
    }
    found
}

/// The other units that systemd loads because a unit names them.
fn others(unit: &str, settings: &[UnitSetting]) -> Vec<String> {
    let mut found: Vec<String> = settings
        .iter()
        .flat_map(|setting| units_in(unit, setting))
        .collect();
    if let Some((stem, "socket" | "timer" | "path")) = unit.rsplit_once('.') {
        found.push(format!("{stem}.service"));
    }
    found
}

fn units_in(unit: &str, setting: &UnitSetting) -> Vec<String> {
    // Their words are names of units only by chance.
    if setting.key.starts_with("Exec") || setting.key == "Description" {
        return Vec::new();
    }
    let value = expand(&setting.value, unit);
    let words = value.split_whitespace().filter(|word| is_unit(word));
    words.map(str::to_owned).collect()
}

/// False if a condition of the unit can be seen not to hold in the tree: a plain one, or all of
/// those of which one must hold (`|`).
fn holds(files: &BootFiles<'_>, settings: &[UnitSetting]) -> bool {
    let (mut has_any, mut any) = (false, false);
    for setting in settings {
        let (is_any, value) = match setting.value.strip_prefix('|') {
            Some(value) => (true, value),
            None => (false, setting.value.as_str()),
        };
        let Some(is_met) = is_met(files, &setting.key, value) else {
            any |= is_any && setting.key.starts_with("Condition");
            continue;
        };
        match is_any {
            true => (has_any, any) = (true, any | is_met),
            false if !is_met => return false,
            false => {}
        }
    }
    any || !has_any
}

/// The answer of the tree to a condition; `None` if the tree does not decide it.
fn is_met(files: &BootFiles<'_>, key: &str, value: &str) -> Option<bool> {
    let (is_negated, value) = match value.strip_prefix('!') {
        Some(value) => (true, value),
        None => (false, value),
    };
    let is_met = match key {
        "ConditionFirstBoot" => matches!(value, "no" | "false" | "0"),
        "ConditionNeedsUpdate" | "ConditionKernelCommandLine" => false,
        "ConditionDirectoryNotEmpty" if is_of_tree(value) => !files.tree.names(value).is_empty(),
        "ConditionPathExists"
        | "ConditionFileNotEmpty"
        | "ConditionFileIsExecutable"
        | "ConditionPathIsDirectory"
            if is_of_tree(value) =>
        {
            files.tree.exists(value)
        }
        _ => return None,
    };
    Some(is_met != is_negated)
}

/// True if the tree decides about the path: `/run` is empty when the system starts, and the kernel
/// decides about its own file systems.
fn is_of_tree(path: &str) -> bool {
    const OTHER: [&str; 5] = ["/proc", "/sys", "/dev", "/tmp", "/var"];
    let is_other = OTHER.iter().any(|other| path.starts_with(other));
    path.starts_with('/') && !path.contains(['%', '*']) && !is_other
}
