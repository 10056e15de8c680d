//! The text of a systemd unit: assignments by section.

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitSetting {
    pub(super) key: String,
    pub(super) value: String,
}

/// The assignments of a unit file and its drop-ins, in order. Lines that end with a backslash
/// continue.
pub(super) fn parse(text: &str) -> Vec<UnitSetting> {
    let mut found = Vec::new();
    let mut pending = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(start) = line.strip_suffix('\\') {
            pending.push_str(start);
            pending.push(' ');
            continue;
        }
        pending.push_str(line);
        if let Some((key, value)) = pending.split_once('=')
            && !pending.starts_with('[')
        {
            found.push(UnitSetting {
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
            });
        }
        pending.clear();
    }
    found
}

/// `value` with the specifiers of the unit's name replaced.
pub(super) fn expand(value: &str, unit: &str) -> String {
    if !value.contains('%') {
        return value.to_owned();
    }
    let (stem, _) = unit.rsplit_once('.').unwrap_or((unit, ""));
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    value
        .replace("%%", "\0")
        .replace("%i", instance)
        .replace("%I", &instance.replace('-', "/"))
        .replace("%p", prefix)
        .replace("%N", stem)
        .replace("%n", unit)
        .replace('\0', "%")
}

/// The template of an instance: `getty@tty1.service` → `getty@.service`.
pub(super) fn template(unit: &str) -> Option<String> {
    let (stem, kind) = unit.rsplit_once('.')?;
    let (prefix, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{kind}"))
}

/// True if a word has the form of a unit's name.
pub(super) fn is_unit(word: &str) -> bool {
    const KINDS: [&str; 10] = [
        "service",
        "target",
        "socket",
        "mount",
        "automount",
        "swap",
        "timer",
        "path",
        "slice",
        "scope",
    ];
    let Some((stem, kind)) = word.rsplit_once('.') else {
        return false;
    };
    !stem.is_empty() && word.len() < 256 && !word.contains('/') && KINDS.contains(&kind)
}
