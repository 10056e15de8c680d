//! Bakes a source to a layer: reads, excludes, applies to the base, keeps differences, writes,
//! verifies.
//!
//! The layer appears under its name complete and verified, or not at all.

mod changes;
mod contents;
mod error;
mod partial;
mod report;
mod survey;

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use layerfmt::tree::diff::diff;
use layerfmt::tree::{ROOT, Tree};
use layerfmt::writer::Base;
use layerfmt::{Content, Digest, Layer, LayerSet, LayerWriter, MergedIndex, Meta, Options};
use wire::push::Change;

use self::contents::Stored;
pub use self::error::BakeError;
pub use self::partial::Partial;
pub use self::report::{BakeReport, Seconds};
pub use self::survey::{Survey, survey};
use crate::assemble::{AssembleError, Assembly, Reading, assemble};
use crate::failed::Doing as _;
use crate::machine;
use crate::overlay;
use source::Source;
use source::accounts::Accounts;
use source::limits::ACCOUNTS_LEN_MAX;
use wire::exclude::Excludes;

/// Most changes of an upload that its report lists one by one.
pub(crate) const CHANGES_LISTED_MAX: usize = 10_000;

/// The stack a layer is baked against.
#[derive(Debug)]
pub struct BaseStack {
    /// The stack flattened, with its content digests.
    pub merged: MergedIndex,
    /// Names of its layers, base first, for the layer's provenance.
    pub names: Vec<Digest>,
    /// Its available layers: contents borrowed from them are verified.
    pub layers: LayerSet,
}

impl BaseStack {
    /// Opens the stack of these layers, base first.
    ///
    /// # Errors
    /// One of them is damaged, or has no content digests.
    pub fn of(layers: &[Arc<Layer>]) -> Result<Self, BakeError> {
        let merged = layerfmt::flatten::flatten_layers(layers.iter().map(|layer| &**layer), true)
            .doing(|| "cannot flatten the base".into())?;
        Ok(BaseStack {
            merged,
            names: layers.iter().map(|layer| layer.digest()).collect(),
            layers: LayerSet::new(layers.iter().cloned()),
        })
    }
}

impl BaseStack {
    /// The users and groups of the stack.
    fn accounts(&self) -> Result<Accounts, AssembleError> {
        let read = |name: &str| {
            let content = self.file(&["etc", name], ACCOUNTS_LEN_MAX as u64);
            content.map_err(|source| AssembleError::Io {
                doing: format!("cannot read etc/{name} of the base"),
                source,
            })
        };
        Ok(Accounts::read(&read("passwd")?, &read("group")?))
    }

    /// The first `len_max` bytes of a file; empty if there is no file.
    fn file(&self, path: &[&str], len_max: u64) -> io::Result<Vec<u8>> {
        let index = &self.merged.index;
        let mut ino = Some(layerfmt::ROOT);
        for part in path {
            let found = ino.and_then(|ino| index.lookup(ino, part.as_bytes()));
            ino = match found.map(|entry| entry.child) {
                Some(layerfmt::DirentTarget::Inode(ino)) => Some(ino),
                _ => None,
            };
        }
        let file = ino.filter(|ino| index.inode(*ino).is_some_and(|inode| inode.is_file()));
        let mut content = Vec::new();
        if let Some(ino) = file {
            let mut reader = layerfmt::ContentReader::new(index, &self.layers);
            reader.stream(ino).take(len_max).read_to_end(&mut content)?;
        }
        Ok(content)
    }
}

/// Parameters of a bake.
pub struct Recipe<'r> {
    /// Patterns to exclude.
    pub excludes: &'r Excludes,
    /// Options of the writer.
    pub options: Options,
    /// Labels for the layer's provenance; equal input and labels give equal bytes.
    pub labels: Vec<(String, String)>,
    /// The interpretation of the source: a whole tree or changes to one.
    pub reading: Reading,
    /// Treatment of data that belongs to one machine, in an import; `None` leaves it.
    pub machine: Option<machine::MachineChoice>,
    /// True if the source is the upper of one machine: a directory in which only the times changed
    /// is not a change, because excluded files changed them, and the report lists the changes.
    pub is_upload: bool,
    /// Called with the number of content bytes after each read.
    pub progress: &'r dyn Fn(u64),
}

impl std::fmt::Debug for Recipe<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recipe")
            .field("options", &self.options)
            .field("labels", &self.labels)
            .field("reading", &self.reading)
            .field("machine", &self.machine)
            .field("is_upload", &self.is_upload)
            .finish_non_exhaustive()
    }
}

/// Progress for callers that show none.
pub fn no_progress(_bytes: u64) {}

/// Bakes `source` on `base` into a layer at `output`.
///
/// # Errors
/// The source cannot be read exactly, does not fit the base, or the layer cannot be written;
/// nothing is left behind then.
pub fn bake(
    source: &mut dyn Source,
    base: Option<&BaseStack>,
    recipe: &Recipe<'_>,
    output: &Path,
) -> Result<BakeReport, BakeError> {
    let start = Instant::now();
    let partial = Partial::beside(output)?;
    let writer = writer(&partial, base, recipe.options, output)?;
    let mut stored = Stored::new(writer, recipe.progress, recipe.is_upload);
    let below = || base.map_or_else(|| Ok(Accounts::default()), BaseStack::accounts);
    let mut assembly = assemble(source, recipe.reading, recipe.excludes, &mut stored, &below)?;
    let mut said = machine::MachineNotes::default();
    if let Some(choice) = recipe.machine {
        let mut files = stored.take_files();
        let (tree, excludes) = (&mut assembly.tree, recipe.excludes);
        said = machine::prepare(tree, &mut files, excludes, &mut stored, choice)?;
    }
    let (writer, mut warnings) = stored.finish();
    warnings.append(&mut said.warnings);
    let read = Instant::now();
    let mut seen = assembly.seen.clone();
    seen.notes.append(&mut said.notes);
    // Without a base every entry is a change.
    let upper = base.map_or_else(Vec::new, |_| entry_paths(&assembly));
    let (tree, listed) = changes(
        assembly,
        writer.base(),
        recipe,
        source.name(),
        &mut seen.notes,
    )?;
    let meta = Meta {
        generator: concat!("bakery ", env!("CARGO_PKG_VERSION")).to_owned(),
        base: base.map(|base| base.names.clone()).unwrap_or_default(),
        labels: recipe.labels.clone(),
    };
    let progress = writer.progress();
    let is_empty = is_empty(&tree, base);
    let no_ops = upper.iter().filter(|path| !holds(&tree, path)).count() as u64;
    let info = writer
        .finish(tree, &meta)
        .doing(|| "cannot write the layer".into())?;
    let written = Instant::now();
    let checked = verify(&partial, base)?;
    partial.publish(output)?;
    Ok(BakeReport {
        source: source.name().to_owned(),
        layer: info.digest,
        tree_digest: checked.tree_digest,
        file_len: info.file_len,
        data_len: info.data_len,
        index_len: info.file_len - info.data_len,
        inodes: info.inodes,
        own_chunks: info.own_chunks,
        borrowed_chunks: info.borrowed_chunks,
        content_len: progress.raw,
        deduplicated_len: progress.deduplicated,
        is_empty,
        no_ops,
        whiteouts: seen.whiteouts,
        entries: seen.entries,
        excluded_count: seen.excluded_count,
        excluded: seen.excluded,
        changes_count: listed.len() as u64,
        changes: listed.into_iter().take(CHANGES_LISTED_MAX).collect(),
        notes: seen.notes,
        warnings,
        seconds: Seconds {
            read: (read - start).as_secs_f64(),
            write: (written - read).as_secs_f64(),
            verify: written.elapsed().as_secs_f64(),
            total: start.elapsed().as_secs_f64(),
        },
    })
}

/// The tree to write: the differences from the base, or the whole source. For an upload also the
/// list of its changes.
fn changes(
    assembly: Assembly<Content>,
    base: Option<&Base>,
    recipe: &Recipe<'_>,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<(Tree<Content>, Vec<Change>), BakeError> {
    let overlay = |source| BakeError::Overlay {
        name: name.to_owned(),
        source,
    };
    let tree = |source| BakeError::Tree {
        name: name.to_owned(),
        source,
    };
    if let Some(base) = base {
        let base = base.tree().doing(|| "cannot read the base".into())?;
        if recipe.is_upload {
            return changes::of_upload(&base, assembly, name, notes);
        }
        let target = overlay::on_base(&base, assembly, notes).map_err(overlay)?;
        return Ok((diff(&base, &target).map_err(tree)?, Vec::new()));
    }
    Ok((
        overlay::standing_alone(assembly).map_err(overlay)?,
        Vec::new(),
    ))
}

/// Paths of all entries that may be unchanged.
fn entry_paths<C>(assembly: &Assembly<C>) -> Vec<Box<[u8]>> {
    let mut paths = Vec::new();
    let _ = assembly.tree.walk(|visit| {
        let implied = visit
            .node
            .is_some_and(|(id, _)| assembly.implied.contains(&id));
        if !visit.path.is_empty() && !implied {
            paths.push(visit.path.into());
        }
        Ok::<(), std::convert::Infallible>(())
    });
    paths
}

fn holds<C>(tree: &Tree<C>, path: &[u8]) -> bool {
    let mut at = ROOT;
    let mut parts = path.split(|&byte| byte == b'/').peekable();
    while let Some(part) = parts.next() {
        match tree.child(at, part) {
            Some(layerfmt::tree::Child::Node(id)) => at = id,
            // Inside a removed directory, one whiteout is enough.
            Some(layerfmt::tree::Child::Whiteout) => return parts.peek().is_none(),
            None => return false,
        }
    }
    true
}

/// True if a layer changes nothing: no entries, and the root is unchanged.
fn is_empty<C>(tree: &Tree<C>, base: Option<&BaseStack>) -> bool {
    let Some(base) = base else { return false };
    let root =
        layerfmt::tree::from_index::metadata(&base.merged.index, ROOT, &mut Default::default());
    let same_root = tree.node(ROOT).is_some_and(|node| node.meta == root);
    let empty = tree
        .directory(ROOT)
        .is_some_and(|dir| dir.entries.is_empty() && !dir.opaque);
    empty && same_root
}

fn writer(
    partial: &Partial,
    base: Option<&BaseStack>,
    options: Options,
    output: &Path,
) -> Result<LayerWriter, BakeError> {
    let doing = || "cannot start the layer".to_owned();
    let base = base.map(|base| Base::new(&base.merged)).transpose();
    let base = base.doing(|| "cannot read the base".into())?;
    let file = partial.file().doing(doing)?;
    let writer = LayerWriter::new(file, Partial::directory_of(output), options, base);
    Ok(writer.doing(doing)?)
}

fn verify(
    partial: &Partial,
    base: Option<&BaseStack>,
) -> Result<layerfmt::check::Report, BakeError> {
    let doing = || "the layer just written does not verify".to_owned();
    let layer = Layer::from_file(partial.file().doing(doing)?).doing(doing)?;
    let below = base.map(|base| base.layers.clone()).unwrap_or_default();
    Ok(layerfmt::check::check(&Arc::new(layer), &below, |_| {}).doing(doing)?)
}
