//! Resolves an assembled tree of changes against its base: redirected directories and metadata-only
//! copies get their contents, implied directories their metadata.
//!
//! Without redirects and metadata-only copies the merge rule of `layerfmt` is sufficient.

mod indexed;
mod links;
mod redirected;

use layerfmt::tree::apply::apply;
use layerfmt::tree::{Child, NodeId, ROOT, Tree, TreeError};

use crate::assemble::Assembly;

/// The reason why changes do not fit their base.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The changes need a base.
    #[error("entry \"{0}\" has only the metadata of a file in the base (metacopy): name its base")]
    MetacopyWithoutBase(String),
    /// The changes need a base.
    #[error("entry \"{0}\" is a directory that was renamed on its base (redirect): name its base")]
    RedirectWithoutBase(String),
    /// Another base than the one the changes were made on.
    #[error(
        "entry \"{path}\" has only the metadata of a file in the base, but the base has no file {below}: it was made on another base"
    )]
    NoFileBelow {
        /// Path of the entry.
        path: String,
        /// The expected path of the file.
        below: String,
    },
    /// Not overlayfs' spelling.
    #[error("entry \"{path}\" has a redirect of \"{value}\", which is not a path")]
    BadRedirect {
        /// Path of the entry.
        path: String,
        /// The attribute's value.
        value: String,
    },
    /// The changes need a base.
    #[error(
        "entry \"{0}\" was changed in an upper with an index (overlayfs, index=on), and has other names in the base: name its base"
    )]
    LinksWithoutBase(String),
    /// Another base than the one the changes were made on, or the file was renamed.
    #[error(
        "entry \"{path}\" was changed in an upper with an index (overlayfs, index=on): {counted} more names of it are in the base, but {found} were found there; mount the overlay once more, replace those names by copies, and bake again"
    )]
    LinksElsewhere {
        /// Path of the entry.
        path: String,
        /// The count of overlayfs.
        counted: i64,
        /// The count in the base.
        found: usize,
    },
    /// An unlisted parent is a link to something that is not a directory.
    #[error(
        "the directory \"{path}\" has no entry in this archive, and in the base it is a symbolic link to {target}, which is not a directory: pack the directory too, or pack its files under their real paths"
    )]
    LinkToNoDirectory {
        /// Path of the parent.
        path: String,
        /// The link's target.
        target: String,
    },
    /// An unlisted parent is something else.
    #[error(
        "the directory \"{0}\" has no entry in this archive, and in the base it is not a directory: to replace the object, pack the directory too"
    )]
    ParentIsNoDirectory(String),
    /// The archive has an entry in the link's target too.
    #[error(
        "\"{link}\" is a symbolic link to {target} in the base, and the archive has \"{path}\" below both of these names: use only one of them"
    )]
    TwiceByLink {
        /// Path of the link.
        link: String,
        /// The target of the link.
        target: String,
        /// The entry below both.
        path: String,
    },
    /// Links form a loop.
    #[error("the parents in this archive are links of the base that form a loop")]
    TooManyLinks,
    /// The result is too large.
    #[error("{0}")]
    Tree(#[from] TreeError),
}

/// The changes alone, for a layer that is baked without its base.
///
/// # Errors
/// They need the base.
pub fn standing_alone<C>(assembly: Assembly<C>) -> Result<Tree<C>, OverlayError> {
    if let Some((path, _)) = assembly.metacopies.values().min() {
        return Err(OverlayError::MetacopyWithoutBase(path.to_string()));
    }
    if let Some(id) = assembly.redirects.keys().min() {
        return Err(OverlayError::RedirectWithoutBase(path_of(
            &assembly.tree,
            *id,
        )));
    }
    let links = assembly.links.into_iter();
    let missing = links.filter(|(id, (_, links))| {
        let counts = || assembly.tree.link_counts();
        let here = counts().get(*id as usize).copied().unwrap_or(0);
        // A count relative to the lower's gives no information.
        links.elsewhere(here, u32::MAX) > 0
    });
    if let Some(path) = missing.map(|(_, (path, _))| path).min() {
        return Err(OverlayError::LinksWithoutBase(path.to_string()));
    }
    Ok(assembly.tree)
}

/// The whole visible tree of the changes on `base`. `notes` gets findings for the user.
///
/// # Errors
/// They were made on another base.
pub(crate) fn on_base<C: Clone>(
    base: &Tree<C>,
    mut assembly: Assembly<C>,
    notes: &mut Vec<String>,
) -> Result<Tree<C>, OverlayError> {
    links::follow(base, &mut assembly, notes)?;
    indexed::join(base, &mut assembly, notes)?;
    if assembly.redirects.is_empty() && assembly.metacopies.is_empty() {
        fill_implied(base, &mut assembly);
        return Ok(apply(base, &assembly.tree)?);
    }
    redirected::merge(base, &assembly)
}

/// Unlisted directories have the attributes of the base.
fn fill_implied<C>(base: &Tree<C>, assembly: &mut Assembly<C>) {
    let Assembly { tree, implied, .. } = assembly;
    let mut open = vec![(ROOT, ROOT)];
    while let Some((upper, lower)) = open.pop() {
        let opaque = tree
            .directory(upper)
            .is_none_or(|directory| directory.opaque);
        if let (true, Some(below), Some(node)) = (
            implied.contains(&upper),
            base.node(lower),
            tree.node_mut(upper),
        ) {
            node.meta = below.meta.clone();
        }
        if opaque {
            continue;
        }
        for (name, child) in tree.entries(upper) {
            if let (Child::Node(id), Some(Child::Node(below))) =
                (child, base.child(lower, name.as_bytes()))
                && tree.directory(*id).is_some()
                && base.directory(below).is_some()
            {
                open.push((*id, below));
            }
        }
    }
}

/// The first path of a node.
fn path_of<C>(tree: &Tree<C>, wanted: NodeId) -> String {
    let mut found = String::new();
    let _ = tree.walk(|visit| match visit.node {
        Some((id, _)) if id == wanted => {
            found = visit.path.escape_ascii().to_string();
            Err(())
        }
        _ => Ok(()),
    });
    found
}
