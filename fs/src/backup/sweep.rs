//! Frees space: removes objects that no complete revision of the backup needs.

use std::collections::HashSet;

use wire::manifest::Manifest;

use super::Backup;

/// Number of complete revisions retained of each history: the newest, and the one before it, which
/// may be running.
const REVISIONS_KEPT: usize = 2;

impl Backup {
    /// Removes older revisions and the objects that only they needed. An unreadable manifest stops
    /// it, because its objects are unknown.
    pub(super) fn sweep(&self) {
        let mut needed = HashSet::new();
        for system in self.dir.names("refs") {
            for profile in self.dir.names(&format!("refs/{system}")) {
                let refs = format!("refs/{system}/{profile}");
                let mut names = self.dir.names(&refs);
                names.retain(|name| {
                    name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit())
                });
                names.sort_unstable();
                let old = names.len().saturating_sub(REVISIONS_KEPT);
                for name in names.iter().take(old) {
                    let _ = self.dir.remove(&format!("{refs}/{name}"));
                }
                for name in names.iter().skip(old) {
                    let Some(bundle) = self.bundle(&format!("{refs}/{name}")) else {
                        return;
                    };
                    let Ok(manifest) = Manifest::parse(bundle.manifest.as_bytes()) else {
                        return;
                    };
                    needed.extend(files(&manifest));
                    needed.insert(format!(
                        "manifests/{}",
                        layerfmt::Digest::of(bundle.manifest.as_bytes())
                    ));
                }
            }
        }
        for dir in ["layers", "packs", "indexes", "boot", "manifests"] {
            for name in self.dir.names(dir) {
                let path = format!("{dir}/{name}");
                if !needed.contains(&path) {
                    let _ = self.dir.remove(&path);
                }
            }
        }
    }
}

/// The paths of everything a revision needs.
pub(super) fn files(manifest: &Manifest) -> Vec<String> {
    let mut paths = Vec::new();
    let layers = manifest.layers.iter().chain(&manifest.borrowed);
    paths.extend(layers.map(|layer| format!("layers/{}.layer", layer.digest)));
    paths.extend(
        manifest
            .pack
            .iter()
            .map(|pack| format!("packs/{}.layer", pack.digest)),
    );
    let indexes = [Some(&manifest.index), manifest.plain.as_ref()];
    paths.extend(
        indexes
            .into_iter()
            .flatten()
            .map(|index| format!("indexes/{}.index", index.digest)),
    );
    let boot = manifest.kernel.iter().chain(&manifest.initrd);
    paths.extend(boot.map(|file| format!("boot/{}", file.digest)));
    paths
}
