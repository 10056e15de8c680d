//! The command `bakery authorize`.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::authorize::{Grant, line, parse_key, without};
use crate::globals::{Globals, SPOOL_DEFAULT};
use crate::receive::Rights;

/// Let an SSH key push to systems, or revoke it
///
/// Writes the key's line for the `authorized_keys` of the account that owns the spool: a forced
/// command that accepts only pushes to the named systems.
#[derive(Debug, clap::Args)]
pub struct AuthorizeArgs {
    /// The public key: a file such as id_ed25519.pub, or - for standard input
    key: PathBuf,
    /// Systems it may push to: SYSTEM, SYSTEM/PROFILE or *, separated by commas
    #[arg(long, value_name = "LIST", required_unless_present = "revoke")]
    systems: Option<Rights>,
    /// The key's name in job records [default: the key's comment]
    #[arg(long)]
    name: Option<String>,
    /// Change this authorized_keys file; else print the line
    #[arg(long, value_name = "FILE", required_if_eq("revoke", "true"))]
    file: Option<PathBuf>,
    /// The spool for the pushes of this key
    #[arg(
        long,
        value_name = "DIR",
        env = "BAKERY_SPOOL",
        default_value = SPOOL_DEFAULT
    )]
    spool: PathBuf,
    /// Remove the key's lines from the file instead
    #[arg(long, conflicts_with_all = ["systems", "name"])]
    revoke: bool,
}

/// Prints or writes the line.
///
/// # Errors
/// The text is not a public key, or the file cannot be changed.
pub(crate) fn run(args: AuthorizeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let key = parse_key(&read(&args.key)?).with_context(|| args.key.display().to_string())?;
    if args.revoke {
        let file = args.file.as_deref().unwrap_or(Path::new(""));
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let (kept, removed) = without(&text, &key);
        if removed == 0 {
            bail!(
                "{} has no line for this key: nothing to revoke",
                file.display()
            );
        }
        replace(file, &kept)?;
        crate::output::note(
            globals,
            &format!("revoked: {removed} line(s) removed from {}", file.display()),
        );
        return Ok(ExitCode::SUCCESS);
    }
    let program = std::env::current_exe().context("cannot determine the path of this program")?;
    let name = args.name.unwrap_or_else(|| key.comment().to_owned());
    if name.is_empty() || name.starts_with('-') {
        bail!("the key has no usable comment: name it with --name");
    }
    let spool = std::path::absolute(&args.spool)?;
    let store = globals.store.as_deref().map(absolute_store).transpose()?;
    let Some(rights) = &args.systems else {
        bail!("name the systems with --systems")
    };
    let grant = Grant {
        program: &program,
        store: store.as_deref(),
        spool: &spool,
        name: &name,
        rights,
    };
    say_unknown(globals, rights);
    let Some(file) = &args.file else {
        let line = line(&key, &grant)?;
        crate::output::raw(|out| writeln!(out, "{line}"))?;
        return Ok(ExitCode::SUCCESS);
    };
    allow(file, &key, &grant)?;
    crate::output::note(globals, &format!("{name} may push to {rights}"));
    Ok(ExitCode::SUCCESS)
}

/// Writes the key's line into `file`, and replaces lines that the key had.
pub(super) fn allow(
    file: &Path,
    key: &ssh_key::PublicKey,
    grant: &Grant<'_>,
) -> anyhow::Result<()> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.with_context(|| format!("cannot read {}", file.display()))?,
    };
    let (kept, _) = without(&text, key);
    replace(file, &format!("{kept}{}\n", line(key, grant)?))
}

/// Warns of a missing system: permission for it is more often a mistake than intended, but it is
/// granted.
fn say_unknown(globals: &Globals, rights: &Rights) {
    let Ok(store) = globals.store() else { return };
    for target in rights.targets() {
        if let Ok(None) = crate::serve::newest_revision(store, &target.system, &target.profile) {
            let text =
                format!("warning: the store has no {target} yet (`bakery log` shows what it has)");
            crate::output::note(globals, &text);
        }
    }
}

/// The path of a store directory for the forced command: sshd starts the command in another
/// directory.
pub(super) fn absolute_store(store: &str) -> anyhow::Result<String> {
    if store.contains("://") {
        return Ok(store.to_owned());
    }
    Ok(std::path::absolute(store)?.to_string_lossy().into_owned())
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin()
            .take(1 << 16)
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
    } else {
        text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(text)
}

/// Replaces the file atomically, because sshd may read it at any time. Mode and owner are
/// preserved; the target of a symbolic link is replaced.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let target = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            bail!(
                "{} is a symbolic link to a file that is not there: make that file first",
                path.display()
            )
        }
        // A new file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        target => target.with_context(|| format!("cannot follow {}", path.display()))?,
    };
    let path = target.as_path();
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut part = tempfile::NamedTempFile::new_in(directory)?;
        part.write_all(text.as_bytes())?;
        let mode = match fs::metadata(path) {
            Ok(old) => {
                std::os::unix::fs::chown(part.path(), Some(old.uid()), Some(old.gid()))?;
                old.mode() & 0o777
            }
            // sshd reads it as the account, which owns the directory.
            Err(_) => {
                crate::store::ownership::inherit(directory, part.path())?;
                0o600
            }
        };
        part.as_file()
            .set_permissions(fs::Permissions::from_mode(mode))?;
        part.as_file().sync_all()?;
        part.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
