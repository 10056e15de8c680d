//! What the kernel has cached of the revision before.

use crate::filesystem::reply::NodeId;
use crate::filesystem::tree::Name;

/// What the kernel must forget, of what it knows. In this order: a listing that began before must
/// have ended when its directory is forgotten, and forgetting a name waits for it.
#[derive(Debug, Default)]
pub struct Stale {
    /// Objects that lost a name.
    pub former: Vec<NodeId>,
    /// Names, by directory.
    pub names: Vec<(NodeId, Name)>,
    /// Directories of which only names differ: they are forgotten if the kernel may have stored their
    /// listing ([`LayerFs::forget_listing`](crate::filesystem::LayerFs::forget_listing)).
    pub listings: Vec<NodeId>,
    /// Directories of which times, attributes or the number of subdirectories differ. If the kernel
    /// forgot one of their names, it has forgotten these too.
    pub directories: Vec<NodeId>,
    /// Files with other data.
    pub pages: Vec<NodeId>,
    /// Objects of which owner, permissions or attributes differ.
    pub attributes: Vec<NodeId>,
}
