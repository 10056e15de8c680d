//! The command `bakery ls`.

use std::io::{self, Write};
use std::process::ExitCode;

use layerfmt::layout::inode::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG};
use layerfmt::{DirentTarget, Index, Ino};
use serde::Serialize;

use super::place;
use crate::globals::Globals;
use crate::history::TreePlace;
use crate::human;
use crate::output;

/// List a directory of a revision
///
/// One line an entry: MODE LINKS UID:GID SIZE TIME NAME [-> TARGET]. For a file, its own line.
#[derive(Debug, clap::Args)]
pub struct LsArgs {
    /// The directory; a revision alone means its root
    #[arg(value_name = "SYSTEM[/PROFILE][@REV][:/PATH]", value_parser = place::parser())]
    place: TreePlace,
}

#[derive(Debug, Serialize)]
struct ListedFile {
    name: String,
    mode: String,
    links: u32,
    uid: u32,
    gid: u32,
    size: u64,
    /// Seconds since 1970.
    mtime: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// Prints the lines.
///
/// # Errors
/// The revision or path does not exist.
pub(crate) fn run(args: LsArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    let found = place::open(&history, &args.place)?;
    let index = &found.merged.index;
    let is_dir = index.inode(found.ino).is_some_and(|inode| inode.is_dir());
    let lines: Vec<ListedFile> = if is_dir {
        let entries = index.entries(found.ino, 0);
        let line = |entry: layerfmt::Dirent<'_>| match entry.child {
            DirentTarget::Inode(ino) => line(index, entry.name, ino),
            DirentTarget::Whiteout => None,
        };
        entries.filter_map(line).collect()
    } else {
        let name = args.place.path.rsplit(|byte| *byte == b'/').next();
        line(index, name.unwrap_or_default(), found.ino)
            .into_iter()
            .collect()
    };
    output::emit(globals, &lines, |out| print(&lines, out))?;
    Ok(ExitCode::SUCCESS)
}

fn line(index: &Index, name: &[u8], ino: Ino) -> Option<ListedFile> {
    let inode = index.inode(ino)?;
    let target = (inode.kind() == S_IFLNK).then(|| index.symlink(ino).escape_ascii().to_string());
    Some(ListedFile {
        name: name.escape_ascii().to_string(),
        mode: mode_text(inode.mode),
        links: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        size: inode.size,
        mtime: inode.mtime.sec,
        device: matches!(inode.kind(), S_IFCHR | S_IFBLK).then_some(inode.rdev),
        target,
    })
}

fn print(lines: &[ListedFile], out: &mut dyn Write) -> io::Result<()> {
    for line in lines {
        let size = match line.device {
            Some((major, minor)) => format!("{major}, {minor}"),
            None => line.size.to_string(),
        };
        let owner = format!("{}:{}", line.uid, line.gid);
        let time = human::time(line.mtime.max(0).unsigned_abs());
        write!(
            out,
            "{} {:>3} {owner:<9} {size:>10} {time} {}",
            line.mode, line.links, line.name
        )?;
        match &line.target {
            Some(target) => writeln!(out, " -> {target}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

/// `drwxr-xr-x`, as ls(1) writes it.
fn mode_text(mode: u32) -> String {
    let kind = match mode & S_IFMT {
        S_IFDIR => 'd',
        S_IFREG => '-',
        S_IFLNK => 'l',
        S_IFCHR => 'c',
        S_IFBLK => 'b',
        S_IFIFO => 'p',
        _ => 's',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::mode_text;

    #[test]
    fn modes_read_as_ls_writes_them() {
        for (mode, text) in [
            (0o040755, "drwxr-xr-x"),
            (0o104755, "-rwsr-xr-x"),
            (0o041777, "drwxrwxrwt"),
            (0o102640, "-rw-r-S---"),
            (0o120777, "lrwxrwxrwx"),
            (0o140600, "srw-------"),
        ] {
            assert_eq!(mode_text(mode), text, "{mode:o}");
        }
    }
}
