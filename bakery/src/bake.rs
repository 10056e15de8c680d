//! A source to a layer: read, leave out, lay on the base, keep what differs, write, verify.
//!
//! The layer appears under its name complete and verified, or not at all.

mod changes;
mod contents;
mod report;
mod survey;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use layerfmt::tree::diff::diff;
use layerfmt::tree::{ROOT, Tree};
use layerfmt::writer::Base;
use layerfmt::{Content, Digest, Layer, LayerSet, LayerWriter, MergedIndex, Meta, Options};
use wire::push::Change;

use self::contents::Stored;
pub use self::report::{Report, Seconds};
pub use self::survey::{Survey, survey};
use crate::assemble::{Assembly, Reading, assemble};
use crate::machine;
use crate::overlay;
use crate::source::Source;
use crate::source::accounts::{self, Accounts};
use wire::exclude::Excludes;

/// Most changes of an upload that its report lists one by one.
pub const CHANGES_LISTED_MAX: usize = 10_000;

/// The stack a layer is baked against.
#[derive(Debug)]
pub struct BaseStack {
    /// The stack flattened, with its content digests.
    pub merged: MergedIndex,
    /// Names of its layers, base first, for the layer's provenance.
    pub names: Vec<Digest>,
    /// Its layers, as far as they are at hand: contents borrowed from them are verified.
    pub layers: LayerSet,
}

impl BaseStack {
    /// The stack of these layers, base first.
    ///
    /// # Errors
    /// One of them is damaged, or has no content digests.
    pub fn of(layers: &[Arc<Layer>]) -> anyhow::Result<Self> {
        let merged = layerfmt::flatten::flatten_layers(layers.iter().map(|layer| &**layer), true)
            .context("cannot flatten the base")?;
        Ok(BaseStack {
            merged,
            names: layers.iter().map(|layer| layer.digest()).collect(),
            layers: LayerSet::new(layers.iter().cloned()),
        })
    }
}

impl BaseStack {
    /// Its users and groups.
    fn accounts(&self) -> anyhow::Result<Accounts> {
        let read = |name: &str| {
            let content = self.file(&["etc", name], accounts::FILE_LEN_MAX as u64);
            content.with_context(|| format!("cannot read etc/{name} of the base"))
        };
        Ok(Accounts::read(&read("passwd")?, &read("group")?))
    }

    /// The first `len_max` bytes of a file; none where no file is.
    fn file(&self, path: &[&str], len_max: u64) -> io::Result<Vec<u8>> {
        let index = &self.merged.index;
        let mut ino = Some(layerfmt::ROOT);
        for part in path {
            let found = ino.and_then(|ino| index.lookup(ino, part.as_bytes()));
            ino = match found.map(|entry| entry.child) {
                Some(layerfmt::Child::Inode(ino)) => Some(ino),
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
    pub machine: Option<machine::Choice>,
    /// The source is the upper of one machine: a directory of which only the times changed is no change,
    /// as what was left out changed them, and the report lists the changes.
    pub is_upload: bool,
    /// Called with the number of content bytes after each read.
    pub progress: &'r dyn Fn(u64),
}

/// For callers that show no progress.
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
) -> anyhow::Result<Report> {
    let start = Instant::now();
    let partial = Partial::beside(output)?;
    let lookup = base.map(|base| Base::new(&base.merged)).transpose()?;
    let writer = LayerWriter::new(
        partial.file()?,
        Partial::directory_of(output),
        recipe.options,
        lookup,
    )
    .context("cannot start the layer")?;
    let mut stored = Stored::new(writer, recipe.progress, recipe.is_upload);
    let below = || base.map_or_else(|| Ok(Accounts::default()), BaseStack::accounts);
    let mut assembly = assemble(source, recipe.reading, recipe.excludes, &mut stored, &below)?;
    let mut said = machine::Said::default();
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
    let upper = entry_paths(&assembly);
    let (tree, listed) = changes(assembly, writer.base(), recipe, &mut seen.notes)
        .with_context(|| format!("cannot apply {} to its base", source.name()))?;
    let meta = Meta {
        generator: concat!("bakery ", env!("CARGO_PKG_VERSION")).to_owned(),
        base: base.map(|base| base.names.clone()).unwrap_or_default(),
        labels: recipe.labels.clone(),
    };
    let progress = writer.progress();
    let info = writer
        .finish(&tree, &meta)
        .context("cannot write the layer")?;
    let written = Instant::now();
    let checked = verify(&partial, base).context("the layer just written does not verify")?;
    partial.publish(output)?;
    Ok(Report {
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
        is_empty: is_empty(&tree, base),
        no_ops: upper.iter().filter(|path| !holds(&tree, path)).count() as u64,
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

/// The tree to write: what differs from the base, or what the source says. For an upload also the list of its
/// changes.
fn changes(
    assembly: Assembly<Content>,
    base: Option<&Base>,
    recipe: &Recipe<'_>,
    notes: &mut Vec<String>,
) -> anyhow::Result<(Tree<Content>, Vec<Change>)> {
    if let Some(base) = base {
        let base = base.tree()?;
        if recipe.is_upload {
            return changes::of_upload(&base, assembly, notes);
        }
        let target = overlay::on_base(&base, assembly, notes)?;
        return Ok((diff(&base, &target)?, Vec::new()));
    }
    Ok((overlay::standing_alone(assembly)?, Vec::new()))
}

/// Paths of all entries that could turn out to change nothing.
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
            // Inside a directory that is gone whole, one whiteout says it all.
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

fn verify(partial: &Partial, base: Option<&BaseStack>) -> anyhow::Result<layerfmt::check::Report> {
    let layer = Arc::new(Layer::from_file(partial.file()?)?);
    let below = base.map(|base| base.layers.clone()).unwrap_or_default();
    Ok(layerfmt::check::check(&layer, &below, |_| {})?)
}

/// A file on its way to its name; gone when dropped before.
#[derive(Debug)]
pub struct Partial(tempfile::NamedTempFile);

impl Partial {
    /// A new file beside `output`, so that it can be renamed to it.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn beside(output: &Path) -> anyhow::Result<Self> {
        let directory = Partial::directory_of(output);
        let file = tempfile::Builder::new()
            .prefix(".bakery-")
            .suffix(".partial")
            .tempfile_in(directory)
            .with_context(|| format!("cannot make a file in {}", directory.display()))?;
        Ok(Partial(file))
    }

    /// The file, for reading and writing.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn file(&self) -> io::Result<File> {
        self.0.as_file().try_clone()
    }

    /// Where it is for the time being.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The directory a file of this name is in.
    #[must_use]
    pub fn directory_of(output: &Path) -> &Path {
        match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Gives the complete, durable file at `path` the name `output`, durably.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn adopt(path: &Path, output: &Path) -> anyhow::Result<()> {
        std::fs::rename(path, output)
            .with_context(|| format!("cannot rename a file to {}", output.display()))?;
        Self::sync_directory(output)
    }

    fn sync_directory(output: &Path) -> anyhow::Result<()> {
        let directory = Self::directory_of(output);
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .with_context(|| format!("cannot sync {}", directory.display()))
    }

    /// Gives the file its name, durably; what had the name before is replaced.
    ///
    /// # Errors
    /// It cannot be renamed or synced.
    pub fn publish(self, output: &Path) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let place = output.display();
        let file = self.0.as_file();
        // A temporary file is private; a layer is as public as the umask lets files be.
        let mode = 0o666 & !umask();
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .and_then(|()| file.sync_all())
            .with_context(|| format!("cannot make {place} durable"))?;
        self.0
            .persist(output)
            .with_context(|| format!("cannot rename a file to {place}"))?;
        Self::sync_directory(output)
    }
}

/// The file mode creation mask, read without changing it.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok())
        .unwrap_or(0o022)
}
