//! `bakery client`, and `bakery import --with-client`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use layerfmt::Options;
use serde::Serialize;
use wire::manifest::{Action, ProfileName};

use super::authorize::{absolute_store, allow};
use crate::assemble::Reading;
use crate::authorize::Grant;
use crate::bake::{BaseStack, Recipe, bake, no_progress};
use crate::client::{Client, host_keys};
use crate::globals::{Globals, SPOOL_DEFAULT};
use crate::graft::Resolution;
use crate::history::Revision;
use crate::initrd::content::find_layerfs;
use crate::initrd::stack_tree::StackTree;
use crate::output;
use crate::publish::{Addition, Publisher};
use crate::receive::Rights;
use source::open;
use wire::exclude::Excludes;

/// The account's keys on a bakery that was installed as documented.
pub const AUTHORIZED_KEYS: &str = "/var/lib/layerfs/.ssh/authorized_keys";

/// Add the client to a system, so that machines booted from it can push and report their boots
///
/// Publishes a revision with /usr/bin/layerfs (the static client), the helpers of mount(8), the
/// boot report service, a push key, and this server's ssh host keys. The key may push to this
/// system and nothing else. Run it again after an upgrade of the bakery.
#[derive(Debug, clap::Args)]
pub struct ClientArgs {
    /// The system or profile
    #[arg(value_name = "SYSTEM[/PROFILE]")]
    pub name: ProfileName,
    /// The files of the client.
    #[command(flatten)]
    pub choice: ClientChoice,
}

/// The parts of a client that may be chosen.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ClientChoice {
    /// The static client [default: layerfs-static beside this program]
    #[arg(long, value_name = "FILE", env = "LAYERFS_STATIC")]
    pub layerfs: Option<PathBuf>,
    /// Add no push key to the system: everybody who can read the system can read the key
    #[arg(long)]
    pub no_push_key: bool,
    /// The file of keys that may push
    #[arg(long, value_name = "FILE", default_value = AUTHORIZED_KEYS)]
    pub authorized_keys: PathBuf,
    /// The spool for the pushes of this key
    #[arg(long = "push-spool", value_name = "DIR", env = "BAKERY_SPOOL", default_value = SPOOL_DEFAULT)]
    pub spool: PathBuf,
}

/// The revision with the client in it.
#[derive(Debug, Serialize)]
pub(crate) struct ClientAnswer {
    published: String,
    client: PathBuf,
    push_key: Option<String>,
}

/// Bakes and publishes.
///
/// # Errors
/// There is no static client, or the revision cannot be published.
pub(crate) fn run(args: ClientArgs, globals: &Globals) -> Result<ExitCode> {
    let publisher = globals.publisher()?;
    let answer = add(&publisher, &args.name, &args.choice, globals)?;
    output::emit(globals, &answer, |out| answer.write_text(out))?;
    Ok(ExitCode::SUCCESS)
}

/// Adds the client to the newest revision of `name`.
///
/// # Errors
/// The errors of [`run`].
pub(crate) fn add(
    publisher: &Publisher,
    name: &ProfileName,
    choice: &ClientChoice,
    globals: &Globals,
) -> Result<ClientAnswer> {
    let program = choice.layerfs.clone().or_else(find_layerfs).ok_or_else(|| {
        anyhow!("no static layerfs beside this program: `make static` builds it, --layerfs FILE names it")
    })?;
    let head = publisher.history().require_head(name)?;
    let push_key = match choice.no_push_key {
        true => None,
        false => Some(push_key(name, choice, globals)?),
    };
    let client = Client {
        program: program.clone(),
        push_key: push_key.as_ref().map(|key| key.text.clone()),
        known_hosts: host_keys().context("cannot read the host keys of sshd")?,
        time: head.manifest.time,
    };
    let published = publish(publisher, &head, &client)?;
    Ok(ClientAnswer {
        published: published.name().to_string(),
        client: program,
        push_key: push_key.map(|key| key.fingerprint),
    })
}

impl ClientAnswer {
    pub(crate) fn write_text(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        writeln!(
            out,
            "client     {} in {}",
            self.client.display(),
            self.published
        )?;
        match &self.push_key {
            Some(key) => writeln!(
                out,
                "push key   {key}; everybody who can read the system can push with it (--no-push-key omits it)"
            ),
            None => writeln!(
                out,
                "push key   none: `layerfs push` needs a key registered by `bakery authorize`"
            ),
        }
    }
}

fn publish(publisher: &Publisher, head: &Revision, client: &Client) -> Result<Revision> {
    let history = publisher.history();
    let base = BaseStack {
        merged: history.merged(&head.manifest)?,
        names: head
            .manifest
            .layers
            .iter()
            .map(|layer| layer.digest)
            .collect(),
        layers: history.layers(&head.manifest)?,
    };
    let tree = StackTree::new(
        Arc::clone(&base.merged.index),
        Box::new(history.layers(&head.manifest)?),
    );
    let staging = publisher.store().staging()?;
    let (archive, layer) = (
        staging.path().join("client.tar"),
        staging.path().join("client.layer"),
    );
    let made = File::create_new(&archive)
        .with_context(|| format!("cannot write {}", archive.display()))?;
    client.write(&tree, made)?;
    let mut source = open::open(&archive, &open::SourceOptions::default())?;
    let recipe = Recipe {
        excludes: &Excludes::new([], false)?,
        options: Options::bake(),
        labels: Vec::new(),
        reading: Reading::Changes,
        machine: None,
        is_upload: false,
        progress: &no_progress,
    };
    bake(&mut *source, Some(&base), &recipe, &layer)?;
    Ok(publisher.add(&Addition {
        name: head.manifest.name(),
        layer: &layer,
        made_on: Some(head.name()),
        action: Action::Bake,
        author: "bakery client".to_owned(),
        message: format!("client {}", env!("CARGO_PKG_VERSION")),
        resolution: Resolution::Theirs,
    })?)
}

struct ClientKey {
    text: String,
    fingerprint: String,
}

/// The key that machines of this system push with, made when there is none, and allowed to.
fn push_key(name: &ProfileName, choice: &ClientChoice, globals: &Globals) -> Result<ClientKey> {
    let (private, public) = globals.keys()?.push_key(name)?;
    let rights: Rights = format!("{}/{}", name.system, name.profile)
        .parse()
        .map_err(|error| anyhow!("{error}"))?;
    let program = std::env::current_exe().context("cannot determine the path of this program")?;
    let spool = std::path::absolute(&choice.spool)?;
    let store = absolute_store(globals.store()?)?;
    let grant = Grant {
        program: &program,
        store: Some(&store),
        spool: &spool,
        name: public.comment(),
        rights: &rights,
    };
    let directory = choice.authorized_keys.parent().unwrap_or(Path::new("/"));
    if directory.is_dir() {
        allow(&choice.authorized_keys, &public, &grant)?;
    } else {
        let text = format!(
            "{} is missing: let the key push with `bakery authorize`, or run this on the server that takes pushes",
            directory.display()
        );
        output::note(globals, &text);
    }
    Ok(ClientKey {
        text: private,
        fingerprint: public.fingerprint(ssh_key::HashAlg::Sha256).to_string(),
    })
}
