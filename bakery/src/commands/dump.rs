//! `bakery dump`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::Globals;
use crate::commands::layers;
use crate::output;

/// Print one line for every object of a layer or a stack
///
/// PATH TYPE MODE UID:GID MTIME SIZE|TARGET|DEVICE and, where there are such, DIGEST, =FIRST PATH, opaque, XATTR=VALUE.
/// One layer is printed as it is, whiteouts included; several as the tree they show together.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The layers, lowest first
    #[arg(required = true, value_name = "LAYER")]
    pub layers: Vec<PathBuf>,
}

/// Prints the lines.
///
/// # Errors
/// A layer is damaged.
pub fn run(args: Args, _globals: &Globals) -> anyhow::Result<ExitCode> {
    let stack = layers::open(&args.layers)?;
    let text = match stack.as_slice() {
        [layer] => layerfmt::dump::dump(layer.index(), layer.content()?.as_ref()),
        stack => {
            let layers = stack.iter().map(|layer| &**layer);
            let merged = layerfmt::flatten::flatten_layers(layers, true)?;
            layerfmt::dump::dump(&merged.index, merged.content.as_ref())
        }
    };
    output::raw(|out| out.write_all(text.as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}
