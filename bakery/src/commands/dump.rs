//! The command `bakery dump`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::commands::layers::{self, NamedLayer};
use crate::globals::Globals;
use crate::output;

/// Print one line for every object of a layer or a stack
///
/// PATH TYPE MODE UID:GID MTIME SIZE|TARGET|DEVICE and, if present, DIGEST, =FIRST PATH, opaque,
/// XATTR=VALUE. One layer is printed unchanged, whiteouts included; several layers, or a revision,
/// as the tree they show.
#[derive(Debug, clap::Args)]
pub struct DumpArgs {
    /// The layers, lowest first; or one revision of the store
    #[arg(required = true, value_name = "LAYER|SYSTEM[/PROFILE]@REV")]
    pub layers: Vec<PathBuf>,
}

/// Prints the lines.
///
/// # Errors
/// A layer is damaged, or the revision does not exist.
pub(crate) fn run(args: DumpArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let text = match layers::named(&args.layers, globals)? {
        NamedLayer::Revision(of) => {
            let merged = of.history.merged(&of.revision.manifest)?;
            layerfmt::dump::dump(&merged.index, merged.content.as_ref())
        }
        NamedLayer::Files(stack) => match stack.as_slice() {
            [layer] => layerfmt::dump::dump(layer.index(), layer.content()?.as_ref()),
            stack => {
                let layers = stack.iter().map(|layer| &**layer);
                let merged = layerfmt::flatten::flatten_layers(layers, true)?;
                layerfmt::dump::dump(&merged.index, merged.content.as_ref())
            }
        },
    };
    output::raw(|out| out.write_all(text.as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}
