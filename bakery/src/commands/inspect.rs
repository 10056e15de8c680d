//! The command `bakery inspect`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use layerfmt::{ChunkFile, Codec, Layer};
use serde::Serialize;

use crate::commands::layers::{self, NamedLayer};
use crate::globals::Globals;
use crate::human;
use crate::output;

/// Describe a layer: its name, sizes, contents and origin
///
/// For a revision it describes the merged index: the tree that clients see.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// A layer, merged index or pack; or a revision of the store
    #[arg(value_name = "FILE|SYSTEM[/PROFILE]@REV")]
    pub layer: PathBuf,
}

#[derive(Debug, Serialize)]
struct Inspection {
    digest: String,
    file_len: u64,
    data_len: u64,
    sections: Vec<SectionReport>,
    inodes: u32,
    directories: u32,
    files: u32,
    whiteouts: u32,
    opaque: u32,
    content_len: u64,
    chunks: u32,
    own_chunks: u32,
    stored_chunks: u32,
    filtered_chunks: u32,
    borrows_from: Vec<String>,
    tree_digest: Option<String>,
    generator: Option<String>,
    base: Vec<String>,
    labels: Vec<(String, String)>,
    early_inodes: Option<u32>,
}

#[derive(Debug, Serialize)]
struct SectionReport {
    name: String,
    stored_len: u64,
    raw_len: u64,
}

/// Describes one layer.
///
/// # Errors
/// It cannot be opened, is damaged, or the revision does not exist.
pub(crate) fn run(args: InspectArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let layer = match layers::named(std::slice::from_ref(&args.layer), globals)? {
        NamedLayer::Files(layers) => layers.into_iter().next().context("no layer was named")?,
        NamedLayer::Revision(of) => Arc::new(of.history.index_file(&of.revision.manifest)?),
    };
    let inspection = inspect(&layer).with_context(|| args.layer.display().to_string())?;
    output::emit(globals, &inspection, |out| inspection.write_text(out))?;
    Ok(ExitCode::SUCCESS)
}

fn inspect(layer: &Layer) -> anyhow::Result<Inspection> {
    let (superblock, index) = (layer.superblock(), layer.index());
    let (meta, content) = (layer.meta()?, layer.content()?);
    let early = meta.as_ref().map(layerfmt::Meta::early).transpose()?;
    let (mut directories, mut files, mut opaque, mut content_len) = (0, 0, 0, 0);
    let mut whiteouts = 0;
    for ino in 0..index.inode_count() {
        let Some(inode) = index.inode(ino) else {
            continue;
        };
        if inode.is_dir() {
            directories += 1;
            opaque += u32::from(inode.opaque);
            let gone =
                |entry: &layerfmt::Dirent<'_>| entry.child == layerfmt::DirentTarget::Whiteout;
            whiteouts += index.entries(ino, 0).filter(gone).count() as u32;
        } else if inode.is_file() {
            files += 1;
            content_len += inode.size;
        }
    }
    let own = || {
        index
            .chunks()
            .filter(|chunk| chunk.source == ChunkFile::Own)
    };
    let section = |section: &layerfmt::layout::superblock::Section| SectionReport {
        name: section.id.name().to_owned(),
        stored_len: section.stored_len,
        raw_len: section.raw_len,
    };
    let text = |digest: layerfmt::Digest| digest.to_string();
    Ok(Inspection {
        digest: layer.digest().to_string(),
        file_len: superblock.file_len,
        data_len: superblock.data_end - layerfmt::layout::superblock::SUPERBLOCK_LEN as u64,
        sections: superblock.sections.iter().map(section).collect(),
        inodes: index.inode_count(),
        directories,
        files,
        whiteouts,
        opaque,
        content_len,
        chunks: index.chunk_count(),
        own_chunks: own().count() as u32,
        stored_chunks: own().filter(|chunk| chunk.codec == Codec::Stored).count() as u32,
        filtered_chunks: own().filter(|chunk| chunk.codec == Codec::ZstdX86).count() as u32,
        borrows_from: index.layers().map(|layer| text(layer.digest)).collect(),
        tree_digest: content.map(|content| text(layerfmt::tree_digest(index, &content))),
        generator: meta.as_ref().map(|meta| meta.generator.clone()),
        base: meta
            .iter()
            .flat_map(|meta| &meta.base)
            .map(|digest| text(*digest))
            .collect(),
        labels: meta
            .map(|meta| meta.words().cloned().collect())
            .unwrap_or_default(),
        early_inodes: early.flatten().map(|early| early.early_count()),
    })
}

impl Inspection {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let length = human::length;
        writeln!(out, "layer      {}", self.digest)?;
        writeln!(
            out,
            "size       {} ({} content)",
            length(self.file_len),
            length(self.data_len)
        )?;
        for SectionReport {
            name,
            stored_len,
            raw_len,
        } in &self.sections
        {
            writeln!(
                out,
                "section    {name}: {} ({} raw)",
                length(*stored_len),
                length(*raw_len)
            )?;
        }
        writeln!(
            out,
            "objects    {} ({} directories, {} files of {}), {} whiteouts, {} opaque",
            self.inodes,
            self.directories,
            self.files,
            length(self.content_len),
            self.whiteouts,
            self.opaque
        )?;
        writeln!(
            out,
            "chunks     {}, {} of its own ({} stored as they are, {} filtered as machine code)",
            self.chunks, self.own_chunks, self.stored_chunks, self.filtered_chunks
        )?;
        if let Some(digest) = &self.tree_digest {
            writeln!(out, "tree       {digest}")?;
        }
        for layer in &self.borrows_from {
            writeln!(out, "borrows    {layer}")?;
        }
        if let Some(generator) = &self.generator {
            writeln!(out, "made by    {generator}")?;
        }
        for layer in &self.base {
            writeln!(out, "base       {layer}")?;
        }
        if let Some(inodes) = self.early_inodes {
            writeln!(out, "early      {inodes} objects that a mount has first")?;
        }
        for (key, value) in &self.labels {
            writeln!(out, "label      {key}: {value}")?;
        }
        Ok(())
    }
}
