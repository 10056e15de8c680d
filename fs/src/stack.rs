//! The lower part of a mount: a flattened index and the source of its chunks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use layerfmt::{Digest, Index, Layer, LayerRef, LayerSet};

use crate::chunks::ChunkSource;
use crate::control::{Control, Local};
use crate::revisions::Revisions;
use crate::secrets::MachineLayer;
use crate::trace::TraceRecorder;

/// A stack, ready to be mounted.
#[derive(Debug, Clone)]
pub struct Stack {
    /// All layers as one.
    pub index: Arc<Index>,
    /// The source of stored chunks.
    pub source: Arc<dyn ChunkSource>,
    /// The requests that it can answer besides reads.
    pub control: Arc<dyn Control>,
    /// The layers, base first.
    pub layers: Vec<LayerRef>,
    /// The recorder of first accesses, if any.
    pub trace: Option<Arc<TraceRecorder>>,
    /// Default name of the mount in the mount table.
    pub name: String,
    /// Other revisions of the system, if it is a server's.
    pub revisions: Option<Arc<dyn Revisions>>,
    /// The values of this machine, and the directory for them in the running system.
    pub values: Option<(MachineLayer, PathBuf)>,
}

/// The reason why local layer files are not a stack.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// No layer was named.
    #[error("no layer given: use -o lowerdir=top.layer:…:base.layer")]
    Empty,
    /// A path is not a file.
    #[error("{0} is not a layer file: bake the directory first (bakery bake)")]
    NotAFile(PathBuf),
    /// A file is not a layer, or damaged.
    #[error("{path}: {source}")]
    Layer {
        /// The affected file.
        path: PathBuf,
        /// The fault of the file.
        source: layerfmt::FormatError,
    },
    /// The layers do not fit together.
    #[error("the layers do not make one tree: {0}")]
    Flatten(layerfmt::FormatError),
}

impl Stack {
    /// Flattens local layer files, base first.
    ///
    /// # Errors
    /// The faulty file and its fault.
    pub fn open(paths: &[PathBuf]) -> Result<Stack, StackError> {
        let mut layers = Vec::with_capacity(paths.len());
        for path in paths {
            layers.push(open_layer(path)?);
        }
        let top = layers.last().ok_or(StackError::Empty)?;
        let name = format!("layerfs:{}", top.digest());
        let mut files = LayerSet::default();
        for layer in &layers {
            files.add(layer.file());
        }
        let references = layers.iter().map(Layer::layer_ref).collect();
        let index = layerfmt::flatten::flatten_into_one(layers).map_err(StackError::Flatten)?;
        Ok(Stack {
            index,
            layers: references,
            source: Arc::new(files),
            control: Arc::new(Local),
            trace: None,
            name,
            revisions: None,
            values: None,
        })
    }

    /// A digest that names the rows of the flattened index: the same layers give the same rows.
    pub fn digest(&self) -> Digest {
        let names: Vec<u8> = self
            .layers
            .iter()
            .flat_map(|layer| layer.digest.0)
            .collect();
        Digest::of(&names)
    }
}

fn open_layer(path: &Path) -> Result<Layer, StackError> {
    if path.is_dir() {
        return Err(StackError::NotAFile(path.to_owned()));
    }
    Layer::open(path).map_err(|source| StackError::Layer {
        path: path.to_owned(),
        source,
    })
}
