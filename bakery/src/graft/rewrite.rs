//! Changes written as a separate layer whose contents are in other layers.

use std::collections::HashMap;
use std::path::Path;

use layerfmt::flatten::FlattenInput;
use layerfmt::flatten::flatten;
use layerfmt::tree::{Child, Kind, Node, NodeId, Tree};
use layerfmt::{
    Base, Content, ContentReader, Layer, LayerSet, LayerWriter, MergedIndex, Meta, Options,
};

use super::{FileId, GraftInput};
use crate::history::{Result, merged_input};

/// A layer to be written, with contents in other layers.
#[derive(Debug)]
pub(super) struct Rewrite<'r> {
    /// The stack from which contents are borrowed.
    pub(super) shown: &'r MergedIndex,
    /// The tree to which the layer is applied; its hidden contents are copied.
    pub(super) ours: &'r MergedIndex,
    /// The layers of *ours*.
    pub(super) sources: &'r LayerSet,
    /// Origin of the layer.
    pub(super) meta: Meta,
}

/// Writes `changes` to `path`. Contents are those of the layer or of *ours*: borrowed if the two
/// stacked show them, else copied.
pub(super) fn write(ways: &GraftInput<'_>, changes: &Tree<FileId>, path: &Path) -> Result<Layer> {
    let shown = flatten(&[merged_input(ways.ours), FlattenInput::of(ways.layer, true)?])?;
    let mut meta = ways.layer.meta()?.unwrap_or_default();
    meta.labels
        .push(("rewritten-from".into(), ways.layer.digest().to_string()));
    let rewrite = Rewrite {
        shown: &shown,
        ours: ways.ours,
        sources: ways.sources,
        meta,
    };
    rewrite.write(changes, path)
}

impl Rewrite<'_> {
    pub(super) fn write(self, changes: &Tree<FileId>, path: &Path) -> Result<Layer> {
        let base = Base::new(self.shown)?;
        let mut known: HashMap<FileId, Content> = HashMap::new();
        let shown = base.tree()?;
        for id in 0..shown.node_count() {
            if let Some(Node {
                kind: Kind::File(content),
                ..
            }) = shown.node(id as NodeId)
            {
                known
                    .entry((content.digest(), content.size()))
                    .or_insert_with(|| content.clone());
            }
        }
        let mut writer = LayerWriter::create(path, Options::bake(), Some(base))?;
        let tree = with_contents(&self, changes, &mut known, &mut writer)?;
        let meta = Meta {
            generator: generator(),
            ..self.meta
        };
        writer.finish(tree, &meta)?;
        Ok(Layer::map(path)?)
    }
}

fn generator() -> String {
    format!("bakery {}", env!("CARGO_PKG_VERSION"))
}

/// The same tree with contents known to the writer.
fn with_contents(
    rewrite: &Rewrite<'_>,
    changes: &Tree<FileId>,
    known: &mut HashMap<FileId, Content>,
    writer: &mut LayerWriter,
) -> Result<Tree<Content>> {
    let root = changes
        .node(layerfmt::tree::ROOT)
        .map(|node| node.meta.clone());
    let mut tree = Tree::new(root.unwrap_or_default());
    let mut copied = Copies::default();
    for id in 0..changes.node_count() as NodeId {
        let Some(node) = changes.node(id) else {
            continue;
        };
        let kind = match &node.kind {
            Kind::File(file) => Kind::File(match known.get(file) {
                Some(content) => content.clone(),
                None => copied.copy(rewrite, file, writer)?,
            }),
            Kind::Directory(directory) => Kind::Directory(directory.clone()),
            Kind::Symlink(target) => Kind::Symlink(target.clone()),
            Kind::Char(major, minor) => Kind::Char(*major, *minor),
            Kind::Block(major, minor) => Kind::Block(*major, *minor),
            Kind::Fifo => Kind::Fifo,
            Kind::Socket => Kind::Socket,
        };
        if id == layerfmt::tree::ROOT {
            if let Some(root) = tree.node_mut(id) {
                root.kind = kind;
            }
        } else {
            tree.add(Node {
                meta: node.meta.clone(),
                kind,
            })?;
        }
    }
    debug_assert!(
        changes
            .entries(0)
            .all(|(_, child)| *child != Child::Node(0))
    );
    Ok(tree)
}

/// Contents of *ours* that the layer hides under all of their paths.
#[derive(Default)]
struct Copies(Option<HashMap<FileId, u32>>);

impl Copies {
    fn copy(
        &mut self,
        rewrite: &Rewrite<'_>,
        file: &FileId,
        writer: &mut LayerWriter,
    ) -> Result<Content> {
        let index = &rewrite.ours.index;
        let inodes = self.0.get_or_insert_with(|| {
            let content = rewrite.ours.content.as_ref();
            let files = (0..index.inode_count()).filter_map(|ino| {
                let inode = index.inode(ino).filter(|inode| inode.is_file())?;
                Some(((content?.file(ino), inode.size), ino))
            });
            files.collect()
        });
        let ino = *inodes.get(file).ok_or_else(|| {
            let what = format!("content {} is in neither tree", file.0);
            layerfmt::FormatError::corrupt("CONTENT", 0, what)
        })?;
        let mut reader = ContentReader::new(index, rewrite.sources);
        let mut stream = reader.stream(ino);
        let segments = stream.segments();
        Ok(writer.add_file(file.1, &segments, &mut stream)?)
    }
}
