//! The command `bakery key`.

mod rotate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use wire::manifest::{Keyset, ProfileName};
use wire::trust::HEAD_NAMESPACE;

use self::rotate::{resign_text, rotate, rotate_root};
use super::wording::Wording;
use crate::globals::Globals;
use crate::history::History;
use crate::human;
use crate::keys::{self, KeyError, Keys};
use crate::output;
use crate::store::Store;

/// Manage the keys that may publish systems
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    verb: KeyVerb,
    /// The root key, if it is not in the bakery's key directory
    #[arg(long, global = true, value_name = "FILE")]
    root_key: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum KeyVerb {
    /// List the keys of the newest keyset
    List,
    /// Print the newest keyset as an allowed_signers file for `ssh-keygen -Y verify`
    Export,
    /// Allow another key to publish
    Add {
        /// Name of the key
        name: String,
        /// Its public key
        #[arg(value_name = "FILE.pub")]
        file: PathBuf,
        /// Systems that the key may publish: SYSTEM, SYSTEM/PROFILE or a pattern; by default
        /// everything
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "*",
            value_name = "PATTERN,…"
        )]
        systems: Vec<String>,
        /// End of its validity, in seconds since 1970
        #[arg(long, value_name = "TIME")]
        valid_before: Option<u64>,
    },
    /// Withdraw a key: heads it signed become invalid
    Revoke {
        /// Name of the key
        name: String,
    },
    /// Replace this bakery's key: the new one signs every history again, then the old one is
    /// withdrawn
    Rotate {
        #[command(flatten)]
        wording: Wording,
    },
    /// Replace the root key: the old one names the new one, which signs keysets from now on
    ///
    /// Clients that trust the old key follow the chain of keysets. An initramfs that `bakery
    /// initrd` makes from now on trusts only the new key. The old root key is necessary
    /// (--root-key).
    RotateRoot {
        /// The new root key: a private key, or the .pub file of one in an agent [default: makes
        /// one]
        #[arg(long, value_name = "FILE")]
        new: Option<PathBuf>,
    },
    /// Sign the newest revision of histories again with this bakery's key
    ///
    /// Inspect it first (bakery diff): the thief of the old key may have published it.
    Resign {
        /// The histories to sign
        #[arg(required = true, value_name = "SYSTEM[/PROFILE]")]
        names: Vec<ProfileName>,
        #[command(flatten)]
        wording: Wording,
    },
    /// Set or print the lifetime of heads
    ///
    /// A client with a correct clock refuses an expired head, so nobody can replay an old system
    /// for long. Heads must then be renewed in time, by `bakery watch` or by `bakery key renew`
    /// from a timer.
    Lifetime {
        /// 30d, 12h, or never; without it the setting is printed
        #[arg(value_name = "AGE")]
        lifetime: Option<String>,
    },
    /// Renew heads and ring records after half of their lifetime, with the same contents
    Renew {
        /// The histories [default: all]
        #[arg(value_name = "SYSTEM[/PROFILE]")]
        names: Vec<ProfileName>,
        #[command(flatten)]
        wording: Wording,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// The root key is not available, or the keyset does not allow it.
pub(crate) fn run(args: KeyArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let keys = globals.keys()?;
    let store = Store::open(globals.store()?)?;
    let root = || keys.root(args.root_key.as_deref());
    match args.verb {
        KeyVerb::List => show(globals, &newest(&store, &keys)?)?,
        KeyVerb::Export => export(&newest(&store, &keys)?)?,
        KeyVerb::Add {
            name,
            file,
            systems,
            valid_before,
        } => {
            let line = read_public(&file)?;
            let keyset = keys::amend(&store, &keys.anchors()?, &root()?, |keyset| {
                refuse_known(keyset, &name, &line)?;
                let systems = systems.iter().map(|pattern| complete(pattern)).collect();
                let signer = keys::signer_of(&name, &line);
                let entry = wire::manifest::Signer {
                    systems,
                    valid_before,
                    ..signer
                };
                keyset.keys.push(entry);
                Ok(())
            })?;
            show(globals, &keyset)?;
        }
        KeyVerb::Revoke { name } => {
            let keyset = keys::amend(&store, &keys.anchors()?, &root()?, |keyset| {
                entry(keyset, &name)?.revoked = true;
                Ok(())
            })?;
            show(globals, &keyset)?;
            warn_of_orphans(globals, store, &keys, &keyset)?;
        }
        KeyVerb::Rotate { wording } => rotate(globals, &store, &keys, &root()?, &wording)?,
        KeyVerb::RotateRoot { new } => {
            rotate_root(globals, &store, &keys, &root()?, new.as_deref())?
        }
        KeyVerb::Resign { names, wording } => {
            let publisher = globals.publisher()?;
            for name in names {
                let revision =
                    publisher.resign(&name, &wording.author(), &resign_text(&wording))?;
                output::note(globals, &format!("published {}", revision.name()));
                publisher.renew_rings(&name, &wording.author())?;
            }
            // Of keys that the keyset names: one of them was revoked or has ended.
            let (keyset, own) = (newest(&store, &keys)?, keys.head()?);
            publisher.renew_values(&wording.author(), |key| {
                key != own.public_line() && keyset.keys.iter().any(|known| known.key == key)
            })?;
        }
        KeyVerb::Lifetime { lifetime } => {
            if let Some(text) = lifetime {
                let lifetime = match text.as_str() {
                    "never" => None,
                    text => Some(human::parse_age(text).map_err(anyhow::Error::msg)?),
                };
                keys.set_lifetime(lifetime)?;
            }
            show_lifetime(globals, &keys)?;
        }
        KeyVerb::Renew { names, wording } => renew(globals, names, &wording)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show_lifetime(globals: &Globals, keys: &Keys) -> anyhow::Result<()> {
    let seconds = keys.lifetime()?.map(|lifetime| lifetime.as_secs());
    output::emit(
        globals,
        &serde_json::json!({ "lifetime_seconds": seconds }),
        |out| match seconds {
            Some(seconds) => writeln!(
                out,
                "heads signed from now on are valid for {} hours; bakery watch or bakery key renew renews them",
                seconds / 3600
            ),
            None => writeln!(out, "heads do not expire"),
        },
    )
}

/// A head that cannot be renewed does not prevent the renewal of the others.
fn renew(globals: &Globals, names: Vec<ProfileName>, wording: &Wording) -> anyhow::Result<()> {
    let publisher = globals.publisher()?;
    let names = match names.is_empty() {
        true => publisher.history().names()?,
        false => names,
    };
    let mut failed = Vec::new();
    for name in names {
        match publisher.renew(&name, &wording.author()) {
            Ok(Some(revision)) => output::note(globals, &format!("published {}", revision.name())),
            Ok(None) => {}
            Err(error) => failed.push(format!("{name}: {error}")),
        }
        match publisher.renew_rings_in_time(&name, &wording.author()) {
            Ok(Some(record)) => {
                output::note(globals, &format!("ring record {} of {name}", record.number))
            }
            Ok(None) => {}
            Err(error) => failed.push(format!("the rings of {name}: {error}")),
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    anyhow::bail!("not renewed: {}", failed.join("; "))
}

fn newest(store: &Store, keys: &Keys) -> anyhow::Result<Keyset> {
    keys::newest(store, &keys.anchors()?)?.context("the store has no keyset; run bakery init")
}

fn show(globals: &Globals, keyset: &Keyset) -> anyhow::Result<()> {
    output::emit(globals, keyset, |out| {
        writeln!(
            out,
            "keyset {} of {}",
            keyset.version,
            human::time(keyset.issued_at)
        )?;
        for key in &keyset.keys {
            write!(
                out,
                "  {:<16} {}  {}",
                key.name,
                key.systems.join(","),
                key.key
            )?;
            if key.revoked {
                write!(out, "  REVOKED")?;
            }
            if let Some(end) = key.valid_before {
                write!(out, "  until {}", human::time(end))?;
            }
            writeln!(out)?;
        }
        Ok(())
    })
}

fn export(keyset: &Keyset) -> anyhow::Result<()> {
    output::raw(|out| {
        for key in keyset.keys.iter().filter(|key| !key.revoked) {
            let systems = key.systems.join(",");
            writeln!(
                out,
                "{systems} namespaces=\"{HEAD_NAMESPACE}\" {} {}",
                key.key, key.name
            )?;
        }
        Ok(())
    })
}

fn warn_of_orphans(
    globals: &Globals,
    store: Store,
    keys: &Keys,
    keyset: &Keyset,
) -> anyhow::Result<()> {
    let history = History::open(store, keys.anchors()?)?;
    for name in history.names()? {
        let line = history.signer_line(&name, None)?;
        let revoked = keyset
            .keys
            .iter()
            .any(|key| key.revoked && Some(&key.key) == line.as_ref());
        if revoked {
            output::note(
                globals,
                &format!(
                    "the head of {name} is signed by a revoked key: clients refuse it. If its \
                     contents are correct: bakery key resign {name}"
                ),
            );
        }
    }
    Ok(())
}

fn entry<'k>(
    keyset: &'k mut Keyset,
    name: &str,
) -> Result<&'k mut wire::manifest::Signer, KeyError> {
    let found = keyset.keys.iter_mut().find(|key| key.name == name);
    found.ok_or_else(|| KeyError::Keyset(format!("no key has the name '{name}' (bakery key list)")))
}

fn refuse_known(keyset: &Keyset, name: &str, line: &str) -> Result<(), KeyError> {
    let known = keyset
        .keys
        .iter()
        .find(|key| key.name == name || key.key == line);
    known.map_or(Ok(()), |key| {
        Err(KeyError::Keyset(format!(
            "the keyset has that key or name already: {}",
            key.name
        )))
    })
}

/// `alt` means all profiles of alt.
fn complete(pattern: &str) -> String {
    if pattern == "*" || pattern.contains('/') {
        pattern.into()
    } else {
        format!("{pattern}/*")
    }
}

fn read_public(file: &Path) -> anyhow::Result<String> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let key = ssh_key::PublicKey::from_openssh(text.trim())
        .with_context(|| format!("{} is not a public key", file.display()))?;
    Ok(keys::signing_line(file, &key)?)
}
