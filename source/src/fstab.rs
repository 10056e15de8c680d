//! The lines of `etc/fstab` that mount a file system at boot.

use std::io::{self, Read as _};

use super::limits::FSTAB_LEN_MAX;
use super::walk::{FileSystem, find_file};

/// The table of mounts.
pub(super) const FSTAB: &str = "etc/fstab";

/// The subvolume that a line for btrfs mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MountedSubvolume {
    /// By its path from the top.
    Path(String),
    /// By its identity.
    Id(u64),
    /// The default one.
    Default,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FstabLine {
    /// The file system, such as `UUID=…`, without quotes.
    pub(super) device: String,
    /// The type of the file system.
    pub(super) kind: String,
    /// The components of the mount point; none for `/`.
    pub(super) place: Vec<String>,
    pub(super) subvolume: MountedSubvolume,
}

impl FstabLine {
    /// True for the line of `/`.
    pub(super) fn is_root(&self) -> bool {
        self.place.is_empty()
    }

    /// The mount point as a path.
    pub(super) fn path(&self) -> String {
        format!("/{}", self.place.join("/"))
    }
}

/// The lines of the table in a tree.
///
/// # Errors
/// The tree is damaged.
pub(super) fn read(tree: &mut impl FileSystem) -> io::Result<Vec<FstabLine>> {
    let Some(mut file) = find_file(tree, FSTAB)? else {
        return Ok(Vec::new());
    };
    let mut text = Vec::new();
    file.bytes(tree)
        .take(FSTAB_LEN_MAX)
        .read_to_end(&mut text)?;
    Ok(lines(&String::from_utf8_lossy(&text)))
}

/// The lines that a boot mounts.
fn lines(text: &str) -> Vec<FstabLine> {
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<FstabLine> {
    let mut fields = text.split_ascii_whitespace();
    let (device, place) = (fields.next()?, fields.next()?);
    let (kind, options) = (fields.next()?, fields.next().unwrap_or_default());
    let place = plain(place);
    if device.starts_with('#') || !place.starts_with('/') {
        return None;
    }
    let mut subvolume = MountedSubvolume::Default;
    let (mut is_manual, mut is_automatic) = (false, false);
    for option in options.split(',') {
        match option.split_once('=') {
            Some(("subvol", path)) => {
                let path = plain(path);
                subvolume = MountedSubvolume::Path(path.trim_matches('/').to_owned());
            }
            // A path is the more reliable of the two: a restored snapshot has another identity.
            Some(("subvolid", id)) if subvolume == MountedSubvolume::Default => {
                subvolume = MountedSubvolume::Id(id.parse().ok()?);
            }
            None if option == "noauto" => is_manual = true,
            None if option == "x-systemd.automount" => is_automatic = true,
            _ => {}
        }
    }
    let components = place.split('/').filter(|part| !part.is_empty());
    (!is_manual || is_automatic).then(|| FstabLine {
        device: plain(device).replace('"', ""),
        kind: kind.to_owned(),
        place: components.map(str::to_owned).collect(),
        subvolume,
    })
}

/// A field with its octal escapes decoded: `\040` is a space.
fn plain(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                text.push(char::from(code));
                text.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_a_boot_mounts_are_found() {
        let text = "# UUID=1 /x btrfs subvol=x 0 0\n\
            UUID=\"1\" / btrfs subvol=root,compress=zstd:1 0 0\n\
            UUID=1  /home\tbtrfs  defaults,subvolid=257,subvol=/@/home  0 0\n\
            LABEL=my\\040disk /srv/my\\040data/ btrfs nofail,subvolid=300 0 0\n\
            /dev/vda2 /all btrfs\n\
            UUID=1 /late btrfs noauto,subvol=late\n\
            UUID=1 /lazy btrfs noauto,x-systemd.automount,subvol=lazy\n\
            UUID=2 /boot ext4 defaults 1 2\n\
            UUID=3 none swap sw 0 0\n\
            broken\n\
            UUID=1 /bad btrfs subvolid=x";
        let line = |device: &str, place: &[&str], subvolume| FstabLine {
            device: device.to_owned(),
            kind: if place == ["boot"] { "ext4" } else { "btrfs" }.to_owned(),
            place: place.iter().map(|part| (*part).to_owned()).collect(),
            subvolume,
        };
        let path = |path: &str| MountedSubvolume::Path(path.to_owned());
        let expected = [
            line("UUID=1", &[], path("root")),
            line("UUID=1", &["home"], path("@/home")),
            line(
                "LABEL=my disk",
                &["srv", "my data"],
                MountedSubvolume::Id(300),
            ),
            line("/dev/vda2", &["all"], MountedSubvolume::Default),
            line("UUID=1", &["lazy"], path("lazy")),
            line("UUID=2", &["boot"], MountedSubvolume::Default),
        ];
        assert_eq!(lines(text), expected);
    }
}
